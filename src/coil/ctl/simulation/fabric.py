"""How many routes of pods the fabric carries, and where blocks lie. Pure.

A ToR announces what ``coil.domain.aggregate`` lets it. Here every ToR reaches all of its nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coil.ctl.simulation.node import HeldBlock, SimulatedNode
from coil.domain.aggregate import usable_aggregates
from coil.domain.names import RackName
from coil.domain.pool import Network, Pool
from coil.domain.ranges import range_of


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes of pods in one table of each kind of router, the fullest of its kind."""

    spine: int
    spine_plain: int
    """Without aggregates: every block of the data centre, in every table."""
    tor: int
    """Prefixes of the other racks, and its own rack's blocks."""
    node: int
    """The same: its ToR tells it all of that."""
    rack: int
    """What one rack announces."""
    outside: int
    """Blocks that lie in no range of their owner's rack."""


def count_routes(
    pool: Pool, owners: Mapping[int, RackName], nodes: Iterable[SimulatedNode]
) -> Routes:
    """Count, with each range's owner by its first block."""
    mine: dict[RackName, list[HeldBlock]] = defaultdict(list)
    inside: dict[RackName, dict[int, RackName | None]] = defaultdict(dict)
    outside = 0
    for node in nodes:
        mine[node.rack] += node.blocks
        for held in node.blocks:
            index = held.block.index
            owner = owners.get(range_of(pool, index).first)
            outside += owner != node.rack
            if owner is not None:
                inside[owner][index] = node.rack
    announced: dict[RackName, int] = {}
    blocks: dict[RackName, int] = {}
    for rack, held_blocks in mine.items():
        networks = [network for held in held_blocks for network in held.block.networks]
        prefixes = usable_aggregates(
            pool, owners, rack, claims=inside[rack], reached=frozenset(networks)
        )
        announced[rack] = len(prefixes) + _outside(prefixes, networks)
        blocks[rack] = len(networks)
    total = sum(announced.values())
    tor = max((total - announced[rack] + blocks[rack] for rack in announced), default=0)
    return Routes(
        spine=total,
        spine_plain=sum(blocks.values()),
        tor=tor,
        node=tor,
        rack=max(announced.values(), default=0),
        outside=outside,
    )


def _outside(prefixes: Sequence[Network], networks: Sequence[Network]) -> int:
    """How many networks lie in none of the prefixes."""
    masks = {(p.version, p.prefixlen, int(p.network_address)) for p in prefixes}
    lengths = {(p.version, p.prefixlen, p.max_prefixlen - p.prefixlen) for p in prefixes}
    return sum(
        not any(
            version == network.version
            and (version, length, int(network.network_address) >> bits << bits) in masks
            for version, length, bits in lengths
        )
        for network in networks
    )
