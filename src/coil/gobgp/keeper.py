"""Keeps gobgpd and the kernel equal, for ever.

Woken by both, and by a period. What becomes ours, or is it no more, gobgpd is told at once; the
other way takes a list of all that it knows. While gobgpd is away nothing is touched: routes stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from coil.domain.errors import CoilError
from coil.gobgp.bridge import Announcer, Told, learn
from coil.gobgp.settings import Settings
from coil.nodenet.events import Event, EventSocket
from coil.nodenet.observe import loopback_index
from coil.nodenet.plan import find_owner
from coil.process.problems import Problems
from coil.process.retry import Backoff, sleep
from coil.routing.model import MAIN_TABLE
from coil.speakers.errors import SpeakerError
from coil.speakers.gobgp import Gobgp

_log = structlog.get_logger()

_BURST_SECONDS = 0.05
"""Between a wake-up and its pass: changes come in bursts."""
_REST = 2.0
"""A pass lists all that gobgpd knows; after it we rest so many times as long as it took."""
_SETTLING_SECONDS = 1.0
"""Between passes until a gobgpd has had its time: a change before its watch began woke nobody."""


class Keeper:
    """See module."""

    def __init__(self, settings: Settings, problems: Problems, say: Callable[[str], None]) -> None:
        """``say`` is told in one line how things are, after each pass."""
        self._settings = settings
        self._problems = problems
        self._say = say
        self._announcer: Announcer | None = None
        """Of the gobgpd that is there."""
        self._own_changed = asyncio.Event()
        self._wake = asyncio.Event()
        self.synced = asyncio.Event()
        """Set after the first pass."""

    async def run(self) -> None:
        """Serve one gobgpd after the other, for ever."""
        backoff = Backoff(initial=0.1, maximum=1.0)
        while True:
            with Gobgp(self._settings.gobgp) as gobgp:
                try:
                    await self._serve(gobgp, backoff)
                except SpeakerError as exc:
                    self._problems.put("gobgp", exc.message)
            await asyncio.sleep(backoff.next())

    async def announce(self) -> None:
        """Tell gobgpd when the kernel has other networks of ours, for ever."""
        while True:
            await self._own_changed.wait()
            self._own_changed.clear()
            if self._announcer is not None:
                try:
                    self._log_told(await asyncio.to_thread(self._announcer.tell))
                except SpeakerError:
                    pass  # The connection is lost; the next one begins with telling.
                except CoilError as exc:
                    self._problems.put("kernel", exc.message)

    async def watch_kernel(self) -> None:
        """Wake for block routes, loopbacks, links, and what others do to our routes, for ever."""
        settings = self._settings
        events = EventSocket(
            [settings.export_table, MAIN_TABLE],
            protocol=settings.route_protocol,
            arrivals=True,
        )
        lo = loopback_index()
        await events.watch(lambda event: self._matters(event, lo), self._wake.set)

    def _matters(self, event: Event, lo: int) -> bool:
        """Whether something is to be learnt anew; what is ours is told from here.

        Pods come and go with links and addresses of their own, which are nothing to us.
        """
        if event.link_alias is not None:
            return find_owner(event.link_alias) is None
        if event.address is not None:
            if event.address.ifindex == lo:
                self._own_changed.set()
            return event.address.prefixlen < event.address.address.max_prefixlen
        if event.route is not None:
            if event.route.table == self._settings.export_table:
                self._own_changed.set()
            return event.route.protocol == self._settings.route_protocol
        if event.address_gone:  # Nothing tells which: a look at lo costs little.
            self._own_changed.set()
        return not event.address_gone

    async def _serve(self, gobgp: Gobgp, backoff: Backoff) -> None:
        """Keep this one until it is gone. Raises SpeakerUnavailable, SpeakerRefused."""
        loop = asyncio.get_running_loop()
        watching = loop.run_in_executor(None, self._watch, gobgp, loop)
        self._announcer = announcer = Announcer(gobgp, self._settings)
        settled = time.monotonic() + self._settings.settle
        while not watching.done():
            self._wake.clear()
            began = time.monotonic()
            await self._sync(gobgp, announcer, remove=began >= settled)
            self._problems.clear("gobgp")
            backoff.reset()
            rest = _BURST_SECONDS + _REST * (time.monotonic() - began)
            period = self._settings.period if began >= settled else _SETTLING_SECONDS
            await sleep(period, self._wake)
            await asyncio.sleep(rest)
        raise watching.result()

    def _watch(self, gobgp: Gobgp, loop: asyncio.AbstractEventLoop) -> SpeakerError:
        """Wake when ways change, until the connection is lost; on a thread of its own."""
        try:
            for _change in gobgp.watch():
                loop.call_soon_threadsafe(self._wake.set)
        except SpeakerError as exc:
            return exc
        finally:
            loop.call_soon_threadsafe(self._wake.set)
        return SpeakerError("gobgpd ended what it tells of changes")

    async def _sync(self, gobgp: Gobgp, announcer: Announcer, *, remove: bool) -> None:
        """One pass. Raises SpeakerError; what else is wrong becomes a problem."""
        try:
            learnt = await asyncio.to_thread(learn, gobgp, self._settings, remove=remove)
            told = await asyncio.to_thread(announcer.tell, learnt.ours)
        except SpeakerError:
            raise
        except CoilError as exc:
            self._problems.put("kernel", exc.message)
            return
        self._problems.clear("kernel")
        self._problems.replace("route", learnt.faults)
        self._log_told(told)
        if learnt.added or learnt.removed:
            _log.debug("routes changed", added=learnt.added, removed=learnt.removed)
        self._say(
            f"{told.own} networks announced, {learnt.routes} routes learnt, "
            f"{len(self._problems.list())} problems"
        )
        self.synced.set()

    @staticmethod
    def _log_told(told: Told) -> None:
        if told.announced or told.withdrawn:
            _log.info("announcements changed", added=told.announced, removed=told.withdrawn)
