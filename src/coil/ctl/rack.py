"""coilctl rack: which ranges of the pools belong to which rack."""

from __future__ import annotations

from collections import Counter, defaultdict

from coil.ctl.common import Context, noun, verb, with_store
from coil.ctl.output import show_rows
from coil.domain.names import RackName
from coil.domain.ranges import aggregates, range_of
from coil.store.contract import Store


@noun("rack")
def rack_group() -> None:
    """Racks, and the prefixes their ToRs could announce."""


@verb(rack_group, "list")
def list_racks(context: Context) -> None:
    """List the ranges of each rack, as few prefixes as they fit in, and what lies outside."""

    async def read(store: Store) -> list[dict[str, object]]:
        racks = {found.record.name: found.record.rack for found in await store.list_nodes()}
        rows: list[dict[str, object]] = []
        for pool in await store.list_pools():
            owners = await store.list_ranges(pool.name)
            firsts: dict[RackName, list[int]] = defaultdict(list)
            for first, rack in owners.items():
                firsts[rack].append(first)
            inside: Counter[RackName] = Counter()
            outside: Counter[RackName] = Counter()
            for claim in await store.list_pool_blocks(pool.name):
                home = racks.get(claim.node)
                if home is not None:
                    is_home = owners.get(range_of(pool, claim.id.index).first) == home
                    (inside if is_home else outside)[home] += 1
            rows += [
                {
                    "rack": rack,
                    "pool": pool.name,
                    "aggregates": [str(network) for network in aggregates(pool, firsts[rack])],
                    "blocks_inside": inside[rack],
                    "blocks_outside": outside[rack],
                }
                for rack in sorted(firsts.keys() | outside.keys())
            ]
        return rows

    columns = {
        "rack": "RACK", "pool": "POOL", "aggregates": "AGGREGATES", "blocks_inside": "BLOCKS",
        "blocks_outside": "OUTSIDE",
    }  # fmt: skip
    show_rows(with_store(context, read), context.output, columns, "no rack has a range yet")
