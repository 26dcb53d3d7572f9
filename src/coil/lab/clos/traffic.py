"""What shows that pods reach each other, and by which way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from coil.lab.clos.pods import Pod
from coil.lab.errors import LabError
from coil.routing.model import Address

_INTERVAL = 0.05
_SECONDS = 120.0
_MAX_HOPS = 16
_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_TIMES = re.compile(r"= [\d.]+/([\d.]+)/")
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
