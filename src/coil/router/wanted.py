"""Which routes this node should have to other nodes' blocks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.domain.block import Block, BlockClaim, BlockId
from coil.domain.errors import InvalidPool
from coil.domain.names import NodeName, PoolName
from coil.domain.node import NodeRecord
from coil.domain.pool import Pool
from coil.nodenet.routes import NextHop

Network = IPv4Network | IPv6Network
FindLink = Callable[[IPv4Address | IPv6Address], int | None]
"""The link an address is on, None when it is not on any of this node's."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the store says."""

    pools: Mapping[PoolName, Pool]
    claims: Mapping[BlockId, BlockClaim]
    nodes: Mapping[NodeName, NodeRecord]


@dataclass(slots=True)
class Wanted:
    """Routes, and why there is none where one should be: a sentence for each pool or node."""

    hops: dict[Network, NextHop] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def want_routes(cluster: Cluster, me: NodeName, find_link: FindLink) -> Wanted:
    """The routes to all blocks of all nodes but ``me``."""
    wanted = Wanted()
    owned = Counter(claim.node for claim in cluster.claims.values())
    known: dict[tuple[NodeName, int], NextHop | str] = {}
    for claim in cluster.claims.values():
        if claim.node == me:
            continue
        block = _find_block(cluster.pools, claim)
        if isinstance(block, str):
            wanted.faults[f"pool {claim.id.pool}"] = block
            continue
        for network in block.networks:
            key = claim.node, network.version
            if key not in known:
                record = cluster.nodes.get(claim.node)
                known[key] = _next_hop(*key, record, find_link, owned=owned[claim.node])
            hop = known[key]
            if isinstance(hop, str):
                wanted.faults[f"node {claim.node} IPv{network.version}"] = hop
            else:
                wanted.hops[network] = hop
    return wanted


def _find_block(pools: Mapping[PoolName, Pool], claim: BlockClaim) -> Block | str:
    pool = pools.get(claim.id.pool)
    if pool is None:
        return (
            f"block {claim.id} of node {claim.node} is of a pool that the store does not show "
            "(any more, or it cannot be read): no route to it; coilctl pool list shows those it has"
        )
    try:
        return pool.block(claim.id.index)
    except InvalidPool as exc:
        return f"node {claim.node} has a claim that cannot be, so no route: {exc.message}"


def _next_hop(
    node: NodeName, version: int, record: NodeRecord | None, find_link: FindLink, *, owned: int
) -> NextHop | str:
    """The first of the node's addresses of this family that is a neighbour's, or why there is none.

    A string is a fault.
    """
    if record is None:
        return (
            f"node {node} owns {owned} blocks and has no record in the store, so no route to them: "
            f"start its coild, or take its blocks back with: coilctl node release {node}"
        )
    addresses = [address for address in record.addresses if address.version == version]
    if not addresses:
        return (
            f"node {node} owns an IPv{version} block, and its record names no IPv{version} "
            "address: give its host one on the network that all nodes share"
        )
    for address in addresses:
        ifindex = find_link(address)
        if ifindex is not None:
            return NextHop(address, ifindex)
    shown = ", ".join(map(str, addresses))
    return (
        f"node {node} is not on a link of this node with any of its IPv{version} addresses "
        f"({shown}), so no route: coil-router is for one flat network; where routers are between "
        "nodes use BGP (coilctl router-config)"
    )
