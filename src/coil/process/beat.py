"""One clock for all that is done every so often.

A process that rests wakes once for all of it. Each wake is paid for with cold caches, and on a
virtual machine with pages that its host has put aside, however little is done then. Who is woken
comes one after the other: threads that compute together take turns at the interpreter a hundred
times, and each turn costs.
"""

from __future__ import annotations

import asyncio
import itertools
import random

from coil.process.retry import sleep

_PLACES = 8
"""In the row of those who are woken; whoever waits more often than that shares one."""
_GAP = 0.05
"""Seconds from one to the next, in which as a rule all is done."""


class Beat:
    """Moments ``period`` seconds apart, the same for all who wait, others in each process.

    So nodes that were switched on together do not ask the store together for ever.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._gap = min(_GAP, period / (4 * _PLACES))
        self._places = itertools.cycle(range(_PLACES))
        self._phase = random.uniform(0, period)  # noqa: S311 - no secret

    async def wait(self, wake: asyncio.Event | None = None) -> bool:
        """Wait for the next, or until ``wake`` is set; True when it was. The event stays set.

        Those who wait for the same moment return in turn.
        """
        now = asyncio.get_running_loop().time()
        left = self._period - (now + self._phase) % self._period
        if left < self._period / 100:  # a timer may come a little early
            left += self._period
        return await sleep(left + next(self._places) * self._gap, wake or asyncio.Event())
