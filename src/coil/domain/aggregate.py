"""Which prefixes a ToR may announce in place of its rack's blocks. Pure.

A prefix draws the traffic of everything in it, so it black-holes a block that this ToR cannot
reach and steals one that belongs to another rack (RFC 7938, 8.2). An aggregate is therefore
announced only while every owned block in it is of this rack and reached; if one is not, each half
is looked at by itself. Blocks in no aggregate are announced as themselves; nothing has to be said
for that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from coil.domain.names import RackName
from coil.domain.pool import Network, Pool
from coil.domain.ranges import aggregates, range_of

_LEAST = 2
"""Blocks an aggregate must save the fabric: one is as well announced as itself."""


def usable_aggregates(
    pool: Pool,
    owners: Mapping[int, RackName],
    rack: RackName,
    *,
    claims: Mapping[int, RackName | None],
    reached: Collection[Network],
) -> list[Network]:
    """The aggregates that a ToR of ``rack`` may announce now, none inside another.

    ``owners``: whose each range is, by its first block (``Store.list_ranges``). ``claims``: the
    rack of the owner of each owned block, by index; None for an owner whose rack is unknown, which
    is as good as a foreign one. ``reached``: networks this ToR has a route for, exactly as a
    block's. Blocks that nobody owns do not matter, nor do claims on blocks the pool has not, nor
    ranges that begin where none can.
    """
    firsts = {
        first
        for first, owner in owners.items()
        if owner == rack and first < pool.block_count and range_of(pool, first).first == first
    }
    blocks = {
        network: owner == rack and network in reached
        for index, owner in claims.items()
        if index < pool.block_count and range_of(pool, index).first in firsts
        for network in pool.block(index).networks
    }
    return [
        usable
        for prefix in aggregates(pool, firsts)
        for usable in _usable(prefix, _inside(prefix, blocks))
    ]


def _usable(prefix: Network, blocks: Mapping[Network, bool]) -> Iterator[Network]:
    if len(blocks) < _LEAST:
        return
    if all(blocks.values()):
        yield prefix
        return
    for half in prefix.subnets():
        yield from _usable(half, _inside(half, blocks))


def _inside(prefix: Network, blocks: Mapping[Network, bool]) -> dict[Network, bool]:
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    return {
        network: good
        for network, good in blocks.items()
        if network.version == prefix.version and first <= int(network.network_address) <= last
    }
