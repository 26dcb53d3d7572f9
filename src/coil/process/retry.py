"""How long to wait before trying again, and a wait that can be cut short."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable


class Backoff:
    """Pauses that double from ``initial`` to ``maximum`` seconds until ``reset``.

    Each is shortened by a random part of at most ``jitter`` (0 to 1) of it, so that many who
    failed at once don't come back at once. It has no end: who retries has a deadline or is
    an eternal task.
    """

    def __init__(
        self,
        *,
        initial: float,
        maximum: float,
        jitter: float = 0.5,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < initial <= maximum or not 0 <= jitter <= 1:
            raise ValueError(f"no backoff: {initial=} {maximum=} {jitter=}")
        self._initial = initial
        self._maximum = maximum
        self._jitter = jitter
        self._chance = chance
        self._following = initial

    def next(self) -> float:
        """Seconds to wait now; the next answer is about twice as long."""
        pause = self._following
        self._following = min(2 * pause, self._maximum)
        return pause * (1 - self._jitter * self._chance())

    def reset(self) -> None:
        """It worked: the next pause is the shortest again."""
        self._following = self._initial


async def sleep(seconds: float, wake: asyncio.Event) -> bool:
    """Wait so long, or until ``wake`` is set; True when it was. The event stays as it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    return wake.is_set()
