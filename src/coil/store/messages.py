"""What every store says in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from coil.domain.errors import OutOfBlocks, PoolCordoned, PoolNotFound
from coil.domain.names import PoolName
from coil.domain.pool import Pool

_NODES_SHOWN = 3


def pool_not_found(name: PoolName) -> PoolNotFound:
    """For a name nothing has."""
    return PoolNotFound(
        f"pool {name} does not exist; coilctl pool list shows those that do", pool=name
    )


def pool_cordoned(name: PoolName) -> PoolCordoned:
    """For a claim in a pool that gives none."""
    return PoolCordoned(f"pool {name} is cordoned and gives no blocks", pool=name)


def out_of_blocks(pool: Pool) -> OutOfBlocks:
    """For a claim in a full pool."""
    return OutOfBlocks(
        f"pool {pool.name} is full: all its {pool.block_count} blocks are owned; add a subnet with "
        f"coilctl pool add-subnet {pool.name} SUBNET",
        pool=pool.name,
    )


def pool_in_use(name: PoolName, owners: Sequence[tuple[str, int]]) -> str:
    """By whom a pool is used: nodes by name, with the number of their blocks."""
    total = sum(count for _node, count in owners)
    nodes = ", ".join(f"{node} ({count})" for node, count in owners[:_NODES_SHOWN])
    more = f" and {len(owners) - _NODES_SHOWN} more nodes" if len(owners) > _NODES_SHOWN else ""
    owned = "block is" if total == 1 else "blocks are"
    return (
        f"pool {name} is in use: {total} {owned} owned, by {nodes}{more}; cordon it with "
        f"coilctl pool cordon {name}, and delete it when its pods are gone"
    )
