"""One clock for all that is done every so often.

A process that rests wakes once for all of it. Each wake is paid for with cold caches, and on a
virtual machine with pages that its host has put aside, however little is done then.
"""

from __future__ import annotations

import asyncio
import random

from coil.process.retry import sleep


class Beat:
    """Moments ``period`` seconds apart, the same for all who wait, others in each process.

    So nodes that were switched on together do not ask the store together for ever.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._phase = random.uniform(0, period)  # noqa: S311 - no secret

    async def wait(self, wake: asyncio.Event | None = None) -> bool:
        """Wait for the next, or until ``wake`` is set; True when it was. The event stays set."""
        now = asyncio.get_running_loop().time()
        left = self._period - (now + self._phase) % self._period
        if left < self._period / 100:  # a timer may come a little early
            left += self._period
        return await sleep(left, wake or asyncio.Event())
