"""Keeps gobgpd and the kernel equal, for ever.

Woken by both, and by a period. While gobgpd is away nothing is touched: routes stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from coil.domain.errors import CoilError
from coil.gobgp.bridge import Outcome, make_equal
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
    """See module. What gobgpd and the kernel have is asked in each pass, never remembered."""

    def __init__(self, settings: Settings, problems: Problems, say: Callable[[str], None]) -> None:
        """``say`` is told in one line how things are, after each pass."""
        self._settings = settings
        self._problems = problems
        self._say = say
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
        """Pods come and go with links and addresses of their own, which are nothing to us."""
        if event.link_alias is not None:
            return find_owner(event.link_alias) is None
        if event.address is not None:
            whole = event.address.prefixlen == event.address.address.max_prefixlen
            return event.address.ifindex == lo or not whole
        if event.route is not None and event.route.table == MAIN_TABLE:
            ours = {self._settings.route_protocol, self._settings.protocol}
            return event.route.protocol in ours
        return True

    async def _serve(self, gobgp: Gobgp, backoff: Backoff) -> None:
        """Keep this one until it is gone. Raises SpeakerUnavailable, SpeakerRefused."""
        loop = asyncio.get_running_loop()
        watching = loop.run_in_executor(None, self._watch, gobgp, loop)
        settled = time.monotonic() + self._settings.settle
        while not watching.done():
            self._wake.clear()
            began = time.monotonic()
            await self._sync(gobgp, remove=began >= settled)
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

    async def _sync(self, gobgp: Gobgp, *, remove: bool) -> None:
        """One pass. Raises SpeakerError; what else is wrong becomes a problem."""
        try:
            outcome = await asyncio.to_thread(make_equal, gobgp, self._settings, remove=remove)
        except SpeakerError:
            raise
        except CoilError as exc:
            self._problems.put("kernel", exc.message)
            return
        self._problems.clear("kernel")
        self._problems.replace("route", outcome.faults)
        self._tell(outcome)
        self.synced.set()

    def _tell(self, outcome: Outcome) -> None:
        if outcome.announced or outcome.withdrawn:
            _log.info("announcements changed", added=outcome.announced, removed=outcome.withdrawn)
        if outcome.added or outcome.removed:
            _log.debug("routes changed", added=outcome.added, removed=outcome.removed)
        self._say(
            f"{outcome.own} networks announced, {outcome.learnt} learnt, "
            f"{len(self._problems.list())} problems"
        )
