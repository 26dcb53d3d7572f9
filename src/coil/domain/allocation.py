"""Which address of a block comes next. One rule: never used first, then the one free longest.

Pure and not thread-safe; times are seconds of one monotonic clock (CLOCK_BOOTTIME in coild).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import takewhile


class BlockAllocator:
    """Book-keeping of one owned block: which offsets are used, cooling, free or never used."""

    def __init__(
        self, size: int, *, used: Iterable[int] = (), freed: Mapping[int, float] | None = None
    ) -> None:
        """Start from what the journal says; what is used then was taken long ago.

        ``freed`` gives for each offset that was in use once when it was freed. Offsets outside
        0..size-1 and an offset that is both used and freed are a caller's bug: ValueError.
        """
        self.size = size
        # When each was taken. Newest last, as below.
        self._used = dict.fromkeys(used, -math.inf)
        # Oldest first; free() appends, and time does not run backwards, so order is kept.
        self._freed = dict(sorted((freed or {}).items(), key=lambda item: item[1]))
        known = self._used.keys() | self._freed.keys()
        if known and not 0 <= min(known) <= max(known) < size:
            raise ValueError("offset outside the block")
        if self._used.keys() & self._freed.keys():
            raise ValueError("offset both used and freed")
        self._fresh = [offset for offset in reversed(range(size)) if offset not in known]

    def allocate(self, now: float, cool_down: float) -> int | None:
        """Take the next offset, or return None when all are used or cooling."""
        if self._fresh:
            offset = self._fresh.pop()
        else:
            oldest = next(iter(self._freed), None)
            if oldest is None or self._freed[oldest] + cool_down > now:
                return None
            del self._freed[oldest]
            offset = oldest
        self._used[offset] = now
        return offset

    def hold(self, offset: int) -> None:
        """Make an offset one in use, whatever it was. Idempotent."""
        if offset in self._used:
            return
        self._used = {offset: -math.inf, **self._used}
        self._freed.pop(offset, None)
        self._fresh = [fresh for fresh in self._fresh if fresh != offset]

    def free(self, offset: int, now: float) -> None:
        """Give an offset back; it cools from ``now``. KeyError when it is not in use."""
        del self._used[offset]
        self._freed[offset] = now

    def cancel(self, offset: int) -> None:
        """Take an allocation back that no pod ever had; the offset is free at once."""
        del self._used[offset]
        self._fresh.append(offset)

    def retire_fresh(self, now: float) -> None:
        """Let every never-used offset cool from ``now``: its past is unknown."""
        while self._fresh:
            self._freed[self._fresh.pop()] = now

    def cooling(self, now: float, cool_down: float) -> dict[int, float]:
        """Offsets that rest, with the time at which each is free again."""
        return {o: at + cool_down for o, at in self._freed.items() if at + cool_down > now}

    def free_count(self, now: float, cool_down: float) -> int:
        """How many offsets could be allocated at ``now``. A cooling one does not count."""
        cooling = 0
        for at in reversed(self._freed.values()):  # newest first: stops at the first cool one
            if at + cool_down <= now:
                break
            cooling += 1
        return len(self._fresh) + len(self._freed) - cooling

    @property
    def used(self) -> frozenset[int]:
        """Offsets in use."""
        return frozenset(self._used)

    @property
    def used_count(self) -> int:
        """How many offsets are in use."""
        return len(self._used)

    def taken_since(self, moment: float) -> int:
        """How many of the offsets in use were allocated after ``moment``."""
        return sum(1 for _ in takewhile(lambda at: at > moment, reversed(self._used.values())))

    @property
    def freed(self) -> dict[int, float]:
        """Offsets that were used once and are not now, with the time each was freed."""
        return dict(self._freed)

    def is_idle(self, now: float, cool_down: float) -> bool:
        """Whether nothing is in use and nothing cools: the block may be given back."""
        return not self._used and self.free_count(now, cool_down) == self.size
