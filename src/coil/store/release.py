"""Taking everything from a node: with evidence that it is gone, or on an operator's word alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from coil.domain.block import BlockClaim
from coil.domain.names import NodeName
from coil.domain.node import NodeRecord
from coil.store.contract import Release, Store


async def take_blocks(
    store: Store, record: NodeRecord
) -> AsyncGenerator[tuple[BlockClaim, Release], None]:
    """Take all blocks of a node that is gone, one by one, each when the next item is asked for.

    Ends after the first that is NOT_GONE: the node has come back. Whoever has taken all of them
    takes the name, too (``store.take_name``): last, for whoever takes it next would find the
    blocks to be its own. Begun again it goes on. Raises StoreError.
    """
    for claim in await store.list_node_blocks(record.name):
        outcome = await store.take_block(claim, record)
        yield claim, outcome
        if outcome is Release.NOT_GONE:
            return


async def release_node(store: Store, node: NodeName) -> list[BlockClaim]:
    """Release all blocks of ``node``, then its name, whether it lives or not; what was released.

    Whether the machine is off is for the caller to know. Idempotent. Raises StoreError.
    """
    claims = await store.list_node_blocks(node)
    released = await store.release_blocks(claims)
    await store.forget_node(node)
    return released
