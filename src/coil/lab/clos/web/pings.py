"""Pings that go on until they are stopped, packet by packet, and the way that packets take."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from coil.domain.errors import CoilError, RequestError
from coil.lab.clos.lab import Lab
from coil.lab.clos.pods import Pod
from coil.lab.clos.traffic import trace
from coil.lab.clos.web.board import Board
from coil.lab.clos.web.watch import Watcher
from coil.routing.model import Address

Json = dict[str, Any]

_MOST = 12
_INTERVAL = 0.2
"""Seconds between two packets: few enough to follow one with the eyes."""
_TRACE_SECONDS = 2.0
_SHOWN = 60
_REPLY = re.compile(r"icmp_seq=(\d+) .*time=([\d.]+) ms")
_LOST = re.compile(r"(?:no answer yet for icmp_seq=|icmp_seq=)(\d+)")


@dataclass
class Ping:
    """One ping. ``recent``: whether the packets up to ``number`` were answered, the newest last."""

    key: int
    source: Pod
    target: Pod
    address: Address
    number: int = 0
    lost: int = 0
    milliseconds: float | None = None
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    silent: int = 0
    """Packets without an answer since the last answer."""
    way: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def title(self) -> str:
        """For people."""
        return f"ping {self.source.name} → {self.target.name}"

    def take(self, line: str) -> int:
        """Take in a line of ping(8); returns how many packets in a row this answer has ended."""
        answered = _REPLY.search(line)
        found = answered or _LOST.search(line)
        if found is None or int(found[1]) <= self.number:
            return 0
        # What lies between was sent and not told of.
        missed = int(found[1]) - self.number - (1 if answered else 0)
        self.number = int(found[1])
        self.lost += missed
        self.silent += missed
        self.recent.extend("0" * missed)
        if answered is None:
            return 0
        self.milliseconds = float(answered[2])
        self.recent.append("1")
        silent, self.silent = self.silent, 0
        return silent

    def describe(self) -> Json:
        """As the page gets it."""
        return {
            "key": self.key,
            "source": self.source.name,
            "target": self.target.name,
            "address": str(self.address),
            "sent": self.number,
            "lost": self.lost,
            "silent": self.silent,
            "milliseconds": self.milliseconds,
            "recent": "".join(self.recent),
            "way": self.way,
            "back": self.back,
        }


class Pings:
    """All that run; they run on while no browser looks. Writes the part ``pings``."""

    def __init__(self, lab: Lab, board: Board, watcher: Watcher) -> None:
        self._lab = lab
        self._board = board
        self._watcher = watcher
        self._running: dict[int, Ping] = {}
        self._last = 0
        self._group = asyncio.TaskGroup()
        self._publish()

    @contextlib.asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """While inside pings may be started; at the end all are stopped."""
        async with self._group:
            try:
                yield
            finally:
                for ping in list(self._running.values()):
                    self.stop(ping.key)

    def start(self, source: Pod, target: Pod, version: int) -> None:
        """Start a ping, to the target's address of this family. Raises RequestError."""
        address = next((a for a in target.addresses if a.version == version), None)
        if address is None:
            raise RequestError(f"pod {target.name} has no address of IPv{version}")
        if len(self._running) >= _MOST:
            raise RequestError(f"{_MOST} pings run already; stop one first")
        self._last += 1
        ping = self._running[self._last] = Ping(self._last, source, target, address)
        self._publish()
        self._group.create_task(self._run(ping))

    def stop(self, key: int) -> None:
        """End a ping. Idempotent."""
        ping = self._running.pop(key, None)
        if ping is not None:
            ping.stopped.set()
            if ping.process is not None and ping.process.returncode is None:
                ping.process.terminate()
            self._publish()

    async def _run(self, ping: Ping) -> None:
        words = ("ping", "-n", "-O", "-i", str(_INTERVAL), str(ping.address))
        process = ping.process = await asyncio.create_subprocess_exec(
            *ping.source.host.inside(*words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.TaskGroup() as group:
                tracing = group.create_task(self._trace(ping))
                last = await self._read(ping, process)
                tracing.cancel()
        except BaseException:
            process.kill()
            raise
        finally:
            await process.wait()
        if not ping.stopped.is_set():
            self._watcher.tell([("bad", f"{ping.title} ended: {last or 'the pod is gone'}")])
            self.stop(ping.key)

    async def _read(self, ping: Ping, process: asyncio.subprocess.Process) -> str:
        """Follow ping(8) to its end; returns what it said last that is no packet's fate."""
        last = ""
        if ping.stopped.is_set():  # before there was a process to be ended
            process.terminate()
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").strip()
            before = ping.silent
            ended = ping.take(line)
            if "icmp_seq" not in line and not line.startswith("PING"):
                last = line
            if ended:
                told = f"{ping.title}: answered again, {ended} packets lost"
                self._watcher.tell([("good", told)])
            elif ping.silent and not before:
                self._watcher.tell([("bad", f"{ping.title}: no answer")])
            self._publish()
        return last

    async def _trace(self, ping: Ping) -> None:
        while True:
            ping.way = await self._find_way(ping.source, ping.target, ping.address) or ping.way
            home = next(a for a in ping.source.addresses if a.version == ping.address.version)
            ping.back = await self._find_way(ping.target, ping.source, home) or ping.back
            self._publish()
            await asyncio.sleep(_TRACE_SECONDS)

    async def _find_way(self, source: Pod, target: Pod, address: Address) -> list[str]:
        """Names from pod to pod; empty when not all of the way answers."""
        try:
            names = {str(a): name for a, name in self._lab.plan.names.items()}
            names[str(address)] = target.name
            hops = await asyncio.to_thread(trace, source, address, names)
        except CoilError:
            return []
        way = [source.name, *(hop.name for hop in hops)]
        return way if all(way) and way[-1] == target.name else []

    def _publish(self) -> None:
        self._board.publish("pings", [ping.describe() for ping in self._running.values()])
