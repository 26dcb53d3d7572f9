"""Whether this replica is the one that acts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable

import structlog

from coil.domain.errors import CoilError
from coil.process.problems import Problems
from coil.process.retry import sleep
from coil.store.contract import CONTROLLER, Store
from coil.store.errors import StoreError

_log = structlog.get_logger()

_MARGIN = 0.2
"""Of the lease: so much earlier this one stops than another may begin, whatever the two clocks
make of a second."""
_RESIGN_SECONDS = 2.0


class Leadership:
    """Takes the lead and keeps it; knows by its own clock when it is over.

    The clock must count suspends (CLOCK_BOOTTIME): a machine that slept has lost the lead.
    """

    def __init__(
        self, store: Store, *, clock: Callable[[], float], lease: float, problems: Problems
    ) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._problems = problems
        self._until = 0.0
        self._verified = False
        """Whether the store is one of ours: of another format nothing is understood."""
        self.holder = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self.term = 0
        """Another number each time the lead is taken, also when nobody else had it meanwhile."""
        self.heard_at = float("-inf")
        """When the store last said who leads."""
        self.changed = asyncio.Event()
        """Set when the lead was taken; whoever waits for it clears it."""

    @property
    def is_leading(self) -> bool:
        """Whether this one may act now. Ask right before each act."""
        return self._clock() < self._until

    async def run(self) -> None:
        """Take and renew the lead, for ever."""
        while True:
            await self._renew()
            await asyncio.sleep(self._lease / 3)

    async def _renew(self) -> None:
        began, led = self._clock(), self.is_leading
        try:
            if not self._verified:
                await self._store.identity()
                self._verified = True
            leads = await self._store.lead(CONTROLLER, self.holder, self._lease)
        except CoilError as exc:
            self._problems.put("leader", exc.message)
            return
        self._problems.clear("leader")
        self.heard_at = began
        self._until = began + self._lease * (1 - _MARGIN) if leads else 0.0
        if leads and not led:
            self.term += 1
            self.changed.set()
            _log.info("leading", source=self.holder)
        elif led and not leads:
            _log.warning("standing by", source=self.holder)

    async def resign(self) -> None:
        """Act no more, and let another begin at once. For the end of the process."""
        was_leading, self._until = self.is_leading, 0.0
        if was_leading:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_RESIGN_SECONDS):
                    await self._store.resign(CONTROLLER, self.holder)

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until the lead is taken."""
        await sleep(seconds, self.changed)
        self.changed.clear()
