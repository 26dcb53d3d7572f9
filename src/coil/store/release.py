"""Taking everything from a node that is gone: for operators and the controller."""

from __future__ import annotations

from coil.domain.block import BlockClaim
from coil.domain.names import NodeName
from coil.store.contract import Release, Store


async def release_node(store: Store, node: NodeName) -> list[BlockClaim]:
    """Release all blocks of ``node``, then its name; those that were released. Idempotent.

    The blocks first: whoever takes the name next finds none of them, or they would be its own.
    Whether the node is gone is for the caller to know. Raises StoreError; call it again then.
    """
    claims = await store.list_node_blocks(node)
    released = [claim for claim in claims if await store.release_block(claim) is Release.RELEASED]
    await store.forget_node(node)
    return released
