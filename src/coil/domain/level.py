"""How many blocks a node should hold: when it claims further ones, when it gives some back. Pure.

Both ends keep clear of each other: what a claim brought is never surplus at once, and what is left
after giving back is never too little. Both know of a burst, and a node on which pods come slowly,
or not at all, is never in one: what was claimed for a burst goes back when it is over.
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil

from coil.domain.allocation import BlockAllocator
from coil.domain.pool import Pool

_MOST_AT_ONCE = 16
"""Blocks per claim: more than a burst on one node needs, little enough to share a pool fairly."""
_BURST_SECONDS = 5.0
"""How long a burst is remembered. A kubelet that fills its node starts 2 to 10 pods a second: one
second would miss it; and what was claimed in vain is kept from the others no longer than this."""
_BURST = 10
"""Addresses taken in that time from which on it is a burst: 2 a second. Where pods come more slowly
a block of 32 lasts 16 s and more, and one at a time is soon enough."""
_FULL_NODE = 110
"""How many pods a burst may bring a node to: kubelet's default limit. What comes beyond it gets
its blocks as if it came slowly."""
_SHARE = 256
"""The part of a pool that a node may claim for a burst beyond what it needs at once: 128 nodes that
do so at the same moment keep half of it from others, for seconds. In a small pool none does."""

_STAY_SECONDS = 5.0
"""How long a block stays that pods have left, where they cool for less: those that come again at
once find it still there."""


def low_water(pool: Pool) -> int:
    """Free addresses below which a node fetches a block ahead of need."""
    return max(1, pool.block_size // 2)


def expected(
    pool: Pool, allocators: Collection[BlockAllocator], *, now: float, waiting: int = 0
) -> int:
    """How many addresses a burst will want beyond those in use or waited for; 0 without one.

    ``allocators``: of the node's blocks of this pool. Nothing is remembered beside them.
    """
    since = now - _BURST_SECONDS
    if waiting + sum(each.taken_since(since) for each in allocators) < _BURST:
        return 0
    used = waiting + sum(each.used_count for each in allocators)
    share = pool.block_count * pool.block_size // _SHARE
    return max(0, min(_FULL_NODE - used, share))


def missing_blocks(pool: Pool, *, free: int, waiting: int = 0, expected: int = 0) -> int:
    """How many blocks to claim when free addresses are below low water.

    Enough for the requests that wait, for those that are ``expected``, and up to low water.
    ``free``: addresses this node could give at once; cooling ones are none.
    """
    short = waiting + low_water(pool) - free
    if pool.cordoned or short <= 0:
        return 0
    return min(_MOST_AT_ONCE, ceil((short + expected) / pool.block_size))


def stay_seconds(pool: Pool) -> float:
    """For how long nothing of a block must have been in use before it counts as idle."""
    return pool.cool_down if pool.cordoned else max(pool.cool_down, _STAY_SECONDS)


def surplus_blocks(pool: Pool, *, free: int, idle: int, expected: int = 0) -> int:
    """How many of ``idle`` blocks (``stay_seconds``) to give back, the newest first.

    All but one, as long as low water holds and what is ``expected`` has its place; all of a
    cordoned pool.
    """
    if pool.cordoned:
        return idle
    return max(0, min(idle - 1, (free - low_water(pool) - expected) // pool.block_size))
