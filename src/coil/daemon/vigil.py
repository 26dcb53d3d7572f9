"""Notices that coild stood still (paused, suspended, dead), and asks the store before going on.

While this process did nothing, or its node reached nobody, the store may have given its blocks to
others. So after each standstill the first thing is to ask; until then no address is given and no
block is announced anew. A store that cannot be asked stops nothing, unless the standstill was
longer than it takes to be declared gone. A node that reaches nobody for as long as that gives no
address either: another node's pod may have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import structlog

from coil.daemon.blocks import BlockKeeper
from coil.daemon.isolation import Isolation
from coil.domain.errors import InDoubt
from coil.journal.errors import JournalError
from coil.journal.journal import Journal, Moment
from coil.process.beat import Beat
from coil.process.problems import Problems

_log = structlog.get_logger()

T = TypeVar("T")
_UNEASY_SECONDS = 0.5
"""Between looks while something is wrong."""
_STAMP_SECONDS = 5.0
"""At least between stamps in the journal, by which a later coild knows how long nobody was here."""


class Vigil:
    """See module. Times are of the journal's clock (CLOCK_BOOTTIME: it counts suspends)."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        journal: Journal,
        keeper: BlockKeeper,
        problems: Problems,
        isolation: Isolation,
        sync: Callable[[], Coroutine[object, None, bool]],
        beat: Beat,
        alarm: asyncio.Event,
        wake_repair: Callable[[], None],
        patience: float,
    ) -> None:
        """``sync`` says whether the store could be asked; ``patience``: see Settings.

        ``beat``: when to look where all is well. ``alarm``: set by whoever has reason to have it
        done at once.
        """
        self._clock = clock
        self._journal = journal
        self._keeper = keeper
        self._problems = problems
        self._isolation = isolation
        self._sync = sync
        self._beat = beat
        self._alarm = alarm
        self._wake_repair = wake_repair
        self._patience = patience
        self._stamp_seconds = min(_STAMP_SECONDS, patience / 5)
        self._tick = clock()
        self._gone = 0.0
        self._stamped = 0.0
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Look how long there was no coild, before anything is served."""
        cut_off = await self._isolation.start()
        stamp = self._journal.find_moment(Moment.ALIVE)
        gone = self._clock() - stamp if stamp is not None else 0.0
        # A journal of an earlier boot: the machine was down, nobody knows for how long.
        if self._journal.rebooted:
            gone = float("inf")
        if max(gone, cut_off) > self._patience:
            self._stood_still(max(gone, cut_off))

    async def confirm(self) -> None:
        """Return when it is sure that this node's blocks are its own; at once, as a rule.

        Raises InDoubt when that cannot be known now.
        """
        self._look()
        if self._keeper.cut_off:
            await self.look_around()
        if self._isolation.seconds > self._patience:
            raise InDoubt(
                f"this node has reached nobody for {_duration(self._isolation.seconds)}: its "
                "blocks may be others' by now; try again later"
            )
        if not self._keeper.in_doubt:
            return
        async with self._asking:
            if not await self._is_settled():
                raise InDoubt(
                    f"coild stood still for {_duration(self._gone)}, and the store cannot be asked "
                    "whether this node's blocks are still its own; try again later"
                )

    async def run(self) -> None:
        """Watch the clock, for ever."""
        while True:
            if self._keeper.in_doubt or self._isolation.is_uneasy:
                await asyncio.sleep(_UNEASY_SECONDS)
            else:
                await self._beat.wait(self._alarm)
            self._alarm.clear()
            self._look()
            await self.look_around()
            if self._keeper.in_doubt:
                async with self._asking:
                    await self._is_settled()
            elif self._tick - self._stamped > self._stamp_seconds:
                self.stamp()

    def resumed(self) -> None:
        """This process was let go on (SIGCONT): however short it was stopped, it was stopped.

        May be called by a signal handler, whatever else runs here; ``after_resume`` must follow.
        """
        now = self._clock()
        self._doubt(now - self._tick)
        self._tick = now

    def after_resume(self) -> None:
        """What a signal handler may not do of it."""
        self._say_so(self._gone)
        self._alarm.set()

    def stamp(self) -> None:
        """Leave a later coild word that this one was here, unless it is in doubt itself.

        Also the proof, every few seconds, that the journal can be written.
        """
        if self._keeper.in_doubt:
            return
        self._stamped = self._tick
        try:
            self._journal.put_moment(Moment.ALIVE, self._tick)
        except JournalError as exc:
            self._problems.put("journal", exc.message)
        else:
            self._problems.clear("journal")

    def _look(self) -> None:
        now = self._clock()
        if now - self._tick > self._patience:
            self._stood_still(now - self._tick)
        self._tick = now

    async def look_around(self) -> None:
        """Withdraw where this node is cut off now; doubt where that has just ended."""
        gone = await self._watching(self._isolation.look())
        if gone:
            self._stood_still(gone)

    def _stood_still(self, seconds: float) -> None:
        self._doubt(seconds)
        self._say_so(seconds)

    @staticmethod
    def _say_so(seconds: float) -> None:
        _log.warning("stood still: asking the store first", reason=_duration(seconds))

    def _doubt(self, seconds: float) -> None:
        # What an earlier doubt was about is settled, by whoever asked the store since.
        self._gone = max(self._gone, seconds) if self._keeper.in_doubt else seconds
        self._keeper.doubt()

    async def _is_settled(self) -> bool:
        """Ask the store whose the blocks are; whether that is known, or was too short to matter.

        Too short: for anybody to take this node for gone.
        """
        if not self._keeper.in_doubt or await self._watching(self._sync()):
            return True
        doubts = self._keeper.doubts
        if self._gone > self._patience:
            return False
        self._keeper.settle(doubts)
        self._wake_repair()  # it has left all routes as they were
        return True

    async def _watching(self, call: Coroutine[object, None, T]) -> T:
        """Await ``call`` with an eye on the clock: to wait, for the store say, is no standstill."""

        async def look() -> None:
            while True:
                await asyncio.sleep(self._patience / 5)
                self._look()

        looking = asyncio.get_running_loop().create_task(look())
        try:
            return await call
        finally:
            looking.cancel()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds != float("inf") else "a reboot"
