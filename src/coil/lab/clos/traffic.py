"""What shows that pods reach each other, and by which way."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from coil.lab.clos.pods import Pod
from coil.lab.errors import LabError
from coil.lab.host import end
from coil.lab.wait import until
from coil.routing.model import Address

_INTERVAL = 0.05
_STREAM_INTERVAL = 0.02
_SECONDS = 120.0
_MAX_HOPS = 16
_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_TIMES = re.compile(r"= [\d.]+/([\d.]+)/")
_ANSWER = re.compile(r"^\[([\d.]+)\] \d+ bytes from", re.MULTILINE)
_HOP = re.compile(r"^\s*(\d+)\s+(\S+)(?:\s+([\d.]+) ms)?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pinged:
    """What became of a row of echo requests."""

    address: Address
    sent: int
    received: int
    milliseconds: float | None
    """The mean round trip; None: nothing came back."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A router on the way, or the end of it."""

    number: int
    address: str
    """Empty: nobody answered in time."""
    name: str
    """Empty: of nobody in the lab."""
    milliseconds: float | None


@dataclass(frozen=True, slots=True)
class Streamed:
    """What became of a stream of echo requests."""

    address: Address
    sent: int
    received: int
    outage: float
    """Seconds: the longest time without an answer, less what lies between two of them anyway."""

    @property
    def lost(self) -> int:
        """Requests that were not answered."""
        return self.sent - self.received


class Stream:
    """Echo requests from a pod to an address, one each 20 ms, until it is stopped."""

    def __init__(self, pod: Pod, address: Address, output: IO[bytes]) -> None:
        self._address = address
        self._output = output
        argv = ("ping", "-n", "-D", "-i", str(_STREAM_INTERVAL), str(address))
        self._process = pod.host.start(*argv, log=output)

    def wait_more(self, count: int) -> None:
        """Until so many more requests are answered."""
        wanted = len(self._answers()) + count
        until(lambda: len(self._answers()) >= wanted, f"{self._address} answers again", 30)

    def stop(self) -> Streamed:
        """End it and count. Call it once."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        times, text = self._answers(), self._text()
        counts = _COUNTS.search(text)
        if counts is None:
            raise LabError(f"ping to {self._address} ended early: {text[-500:]}")
        outage = max((later - sooner for sooner, later in pairwise(times)), default=0.0)
        outage = max(0.0, outage - _STREAM_INTERVAL)
        return Streamed(self._address, int(counts[1]), int(counts[2]), outage)

    def kill(self) -> None:
        """End it in any case. Idempotent."""
        end(self._process)

    def _answers(self) -> list[float]:
        """When each answer came."""
        return [float(found) for found in _ANSWER.findall(self._text())]

    def _text(self) -> str:
        self._output.seek(0)
        return self._output.read().decode()


@contextmanager
def streams(pod: Pod, other: Pod) -> Iterator[list[Stream]]:
    """Streams from a pod to every address of another, that are answered; ended at the end."""
    with ExitStack() as stack:
        made = []
        for address in other.addresses:
            output = stack.enter_context(tempfile.TemporaryFile("a+b"))
            made.append(Stream(pod, address, output))
            stack.callback(made[-1].kill)
        for stream in made:
            stream.wait_more(1)
        yield made


def ping(pod: Pod, address: Address, *, count: int = 5) -> Pinged:
    """Send echo requests from a pod. Raises LabError where none can be sent."""
    done = pod.host.run(
        *("ping", "-n", "-q", "-c", str(count), "-i", str(_INTERVAL), "-W", "1", str(address)),
        check=False,
        seconds=_SECONDS,
    )
    counts = _COUNTS.search(done.stdout)
    if counts is None:
        raise LabError(f"ping from {pod.name} to {address} failed: {done.stderr.strip()}")
    times = _TIMES.search(done.stdout)
    milliseconds = float(times[1]) if times else None
    return Pinged(address, int(counts[1]), int(counts[2]), milliseconds)


def trace(pod: Pod, address: Address, names: Mapping[str, str]) -> list[Hop]:
    """The way of echo requests from a pod, hop by hop; the last is ``address`` if it was reached.

    ``names``: whose an address is.
    """
    done = pod.host.run(
        *("traceroute", "-n", "-I", "-q", "1", "-w", "1", "-m", str(_MAX_HOPS), str(address)),
        seconds=_SECONDS,
    )
    hops = []
    for number, found, milliseconds in _HOP.findall(done.stdout.partition("\n")[2]):
        source = "" if found == "*" else found
        taken = float(milliseconds) if milliseconds else None
        hops.append(Hop(int(number), source, names.get(source, ""), taken))
    return hops
