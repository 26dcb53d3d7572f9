"""Notices that this node reaches nobody, and withdraws its blocks until the store has been asked.

A node that was cut off may have been taken for gone, and its blocks be another node's by the time
it is back. Its routing daemon would be heard before coild has asked the store; so nothing is
exported from the moment on at which nobody can hear it anyway. Losing the store alone withdraws
nothing: a node counts as cut off only when the last route that leads on by a gateway has gone as
well, and had been there before (a flat network has none). Routes of a routing daemon that was
killed or hangs stay in the kernel; its neighbours drop theirs. So do routes that an administrator
or DHCP made, when their gateway is lost without a sign. What has not answered for a while, which a
restart does not take, counts as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping

import structlog

from coil.daemon.blocks import BlockKeeper
from coil.daemon.workers import Workers
from coil.domain.errors import CoilError
from coil.journal.errors import JournalError
from coil.journal.journal import Journal, Moment
from coil.nodenet.gateways import find_silent_gateways, has_way_out
from coil.nodenet.parse import Gateway
from coil.speakers.pulse import Sockets, find_silent

_log = structlog.get_logger()


class Isolation:
    """See module. Times are of the journal's clock."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        journal: Journal,
        keeper: BlockKeeper,
        workers: Workers,
        store_is_away: Callable[[], bool],
        heard_at: Callable[[], float],
        sockets: Sockets,
        patience: float,
    ) -> None:
        """``heard_at``: when the store was last asked and answered; 0 before.

        ``patience``: seconds a routing daemon or a gateway may be silent.
        """
        self._clock = clock
        self._journal = journal
        self._keeper = keeper
        self._workers = workers
        self._store_is_away = store_is_away
        self._heard_at = heard_at
        self._sockets = sockets
        self._patience = patience
        self._silent_since: Mapping[int | Gateway, float] = {}
        self._had_way = False
        self._in_touch = clock()

    @property
    def is_uneasy(self) -> bool:
        """Whether this node may be cut off at any moment, or is."""
        return self._keeper.cut_off or self._store_is_away()

    async def start(self) -> float:
        """As ``look``, going on where an earlier coild of this boot ended."""
        find = self._journal.find_moment
        self._had_way = find(Moment.HAD_WAY) is not None
        since = find(Moment.CUT_OFF)
        self._keeper.cut_off = since is not None
        self._in_touch = since or find(Moment.ALIVE) or self._in_touch
        return await self.look()

    @property
    def seconds(self) -> float:
        """For how long this node has reached nobody; 0 when it does."""
        return self._clock() - self._in_touch if self._keeper.cut_off else 0.0

    async def look(self) -> float:
        """Withdraw where this node is cut off now; the seconds it was where that has just ended.

        Else 0. Whoever is told must put the blocks in doubt before anything else happens.
        """
        try:
            return await self._look()
        except CoilError as exc:
            _log.warning("cannot tell whether this node is cut off", reason=exc.message)
            return 0.0

    async def _look(self) -> float:
        away = self._store_is_away()
        if not self._keeper.cut_off:
            self._in_touch = max(self._in_touch, self._heard_at())
            if not away:
                self._silent_since = {}
                if self._had_way:
                    return 0.0
        silent = await self._find_silent() if away else ()
        has_way = await self._workers.run(lambda netlink: has_way_out(netlink, silent))
        if has_way and not self._had_way:
            self._had_way = True
            self._journal.put_moment(Moment.HAD_WAY, self._clock())
        if self._keeper.cut_off:
            return self._back() if has_way or self._heard_at() > self._in_touch else 0.0
        # Asked again: a daemon that hangs took its time.
        if self._store_is_away() and self._had_way and not has_way:
            await self._withdraw(silent)
        return 0.0

    async def _find_silent(self) -> list[int | Gateway]:
        """Protocols whose daemon does not answer, and gateways: routes by them count as gone.

        For longer than a restart takes; once this node is cut off, until it answers again.
        """
        now = self._clock()
        suspects = [each for each in self._silent_since if isinstance(each, Gateway)]
        daemons = await asyncio.to_thread(find_silent, self._sockets)
        gateways = await self._workers.run(lambda nl: find_silent_gateways(nl, suspects))
        silent: set[int | Gateway] = {*daemons, *gateways}
        self._silent_since = {each: self._silent_since.get(each, now) for each in silent}
        patience = 0.0 if self._keeper.cut_off else self._patience
        return [each for each, since in self._silent_since.items() if now - since >= patience]

    def _back(self) -> float:
        self._keeper.cut_off = False
        # What stays in the journal has a later coild ask the store as well, no more.
        with contextlib.suppress(JournalError):
            self._journal.remove_moment(Moment.CUT_OFF)
        return self._clock() - self._in_touch

    async def _withdraw(self, silent: Collection[int | Gateway]) -> None:
        daemon = any(not isinstance(each, Gateway) for each in silent)
        who = "the routing daemon does not answer" if daemon else "no gateway answers"
        _log.warning(
            "cut off from all others: blocks are withdrawn until the store is asked",
            reason=who if silent else "no route by a gateway",
        )
        self._keeper.cut_off = True
        # The journal first: a coild that starts after a kill must not announce them again.
        with contextlib.suppress(JournalError):
            self._journal.put_moment(Moment.CUT_OFF, self._in_touch)
        await self._keeper.sync_routes()
