"""Everything the journal holds, read whole and checked.

Each row may be well formed while they do not fit together: a journal like that is as damaged as one
of torn pages, and must not bring down whoever starts from it.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass, field

from coil.domain.attachment import Attachment
from coil.domain.block import BlockId
from coil.domain.codec import pool_from_json
from coil.domain.pool import Pool
from coil.journal import schema
from coil.journal.schema import JournaledBlock


@dataclass(slots=True)
class JournalState:
    """Everything the journal holds. Times are CLOCK_BOOTTIME seconds of this boot."""

    pools: list[Pool] = field(default_factory=list)
    blocks: list[JournaledBlock] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    freed: dict[BlockId, dict[int, float]] = field(default_factory=dict)


def read_state(connection: sqlite3.Connection) -> JournalState:
    """Read everything.

    Raises ValueError, TypeError, CoilError or sqlite3.Error for what coil never wrote.
    """
    state = JournalState()
    pools = connection.execute("SELECT name, spec FROM pools ORDER BY name")
    state.pools = [pool_from_json(*row) for row in pools]
    connection.row_factory = sqlite3.Row
    try:
        blocks = connection.execute("SELECT * FROM blocks ORDER BY pool, idx")
        state.blocks = [schema.block_from_row(row) for row in map(dict, blocks)]
        held = connection.execute("SELECT * FROM attachments")
        state.attachments = [schema.attachment_from_row(row) for row in map(dict, held)]
    finally:
        connection.row_factory = None
    for pool, index, offset, at in connection.execute("SELECT * FROM freed"):
        state.freed.setdefault(BlockId(pool, index), {})[offset] = float(at)
    _check(state)
    return state


def _check(state: JournalState) -> None:
    """Raise ValueError or InvalidPool where the rows do not fit together.

    What lies in blocks this node does not own is not looked at: their pools may have changed.
    """
    pools = {pool.name: pool for pool in state.pools}
    for block in (journaled.claim.id for journaled in state.blocks):
        pool = pools.get(block.pool)
        if pool is None:
            raise ValueError(f"block {block} is of no known pool")
        pool.block(block.index)
        freed = state.freed.get(block, {})
        used = [held.offset for held in state.attachments if held.block == block]
        if not all(0 <= offset < pool.block_size for offset in (*used, *freed)):
            raise ValueError(f"an address lies outside of block {block}")
        if not all(math.isfinite(at) for at in freed.values()):
            raise ValueError(f"an address of block {block} was freed at no time")
