"""coilctl block: who owns which block."""

from __future__ import annotations

import click

from coil.ctl.common import Context, noun, verb, with_store
from coil.ctl.output import show_rows
from coil.domain.names import parse_pool_name
from coil.store.contract import Store


@noun("block")
def block_group() -> None:
    """Slices of a pool's subnets, each owned by one node."""


@verb(block_group, "list")
@click.option("--pool", default="", help="Only this pool's.")
@click.option("--node", default="", help="Only this node's.")
def list_blocks(context: Context, pool: str, node: str) -> None:
    """List owned blocks."""

    async def read(store: Store) -> list[dict[str, object]]:
        wanted = [await store.get_pool(parse_pool_name(pool))] if pool else await store.list_pools()
        return [
            {
                "pool": claim.id.pool,
                "index": claim.id.index,
                "networks": [str(network) for network in found.block(claim.id.index).networks],
                "node": claim.node,
                "revision": claim.revision,
            }
            for found in wanted
            for claim in await store.list_pool_blocks(found.name)
            if not node or claim.node == node
        ]

    columns = {"pool": "POOL", "index": "BLOCK", "networks": "NETWORKS", "node": "NODE"}
    show_rows(with_store(context, read), context.output, columns, "no block is owned")
