"""How many blocks a node should hold: when it claims further ones, when it gives some back. Pure.

Both ends keep clear of each other: what a claim brought is never surplus at once, and what is left
after giving back is never too little.
"""

from __future__ import annotations

from math import ceil

from coil.domain.pool import Pool

_MOST_AT_ONCE = 16
"""Blocks per claim: more than a burst on one node needs, little enough to share a pool fairly."""


def low_water(pool: Pool) -> int:
    """Free addresses below which a node fetches a block ahead of need."""
    return max(1, pool.block_size // 2)


def missing_blocks(pool: Pool, *, free: int, waiting: int = 0) -> int:
    """How many blocks to claim: enough for the requests that wait, and up to low water.

    ``free``: addresses this node could give at once; cooling ones are none.
    """
    short = waiting + low_water(pool) - free
    if pool.cordoned or short <= 0:
        return 0
    return min(_MOST_AT_ONCE, ceil(short / pool.block_size))


def surplus_blocks(pool: Pool, *, free: int, idle: int) -> int:
    """How many of ``idle`` blocks (nothing used, nothing cooling) to give back, the newest first.

    All but one, as long as low water holds; all of a cordoned pool.
    """
    if pool.cordoned:
        return idle
    return max(0, min(idle - 1, (free - low_water(pool)) // pool.block_size))
