"""Which routes a node wants, from what the store says and where neighbours are."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from coil.domain.block import BlockClaim, BlockId
from coil.domain.names import NodeName, PoolName
from coil.domain.node import Holder, NodeRecord
from coil.domain.pool import Pool, parse_subnet
from coil.nodenet.routes import NextHop
from coil.router.wanted import Cluster, want_routes

ME, OTHER = NodeName("me"), NodeName("other")
NAME = PoolName("default")
POOL = Pool(NAME, (parse_subnet("10.0.0.0/24,fd00::/120"),), 4)
V4, V6, FAR = map(ip_address, ("192.0.2.9", "2001:db8::9", "198.51.100.1"))


def claim(node, index):
    return BlockClaim(BlockId(NAME, index), node, index)


def cluster(*claims, addresses=(V4, V6), pools=(POOL,), recorded=True):
    record = NodeRecord(OTHER, Holder("m", "b", "p"), "1", None, tuple(addresses), 0)
    return Cluster(
        {pool.name: pool for pool in pools},
        {each.id: each for each in claims},
        {OTHER: record} if recorded else {},
    )


def find_link(address):
    return None if address == FAR else 7


def test_others_blocks_have_routes_by_family_and_own_ones_have_none():
    wanted = want_routes(cluster(claim(OTHER, 1), claim(ME, 2)), ME, find_link)
    assert wanted.hops == {
        ip_network("10.0.0.16/28"): NextHop(V4, 7),
        ip_network("fd00::10/124"): NextHop(V6, 7),
    }
    assert wanted.faults == {}


def test_the_first_address_that_is_a_neighbours_is_taken():
    wanted = want_routes(cluster(claim(OTHER, 0), addresses=(FAR, V4, V6)), ME, find_link)
    assert wanted.hops[ip_network("10.0.0.0/28")].gateway == V4


@pytest.mark.parametrize(
    ("seen", "subjects", "says"),
    [
        (cluster(claim(OTHER, 0), recorded=False), {"IPv4", "IPv6"}, "coilctl node release other"),
        (cluster(claim(OTHER, 0), addresses=(V4,)), {"IPv6"}, "names no IPv6 address"),
        (cluster(claim(OTHER, 0), addresses=(FAR, V6)), {"IPv4"}, "198.51.100.1"),
        (cluster(claim(OTHER, 0), pools=()), {"pool"}, "coilctl pool list"),
        (cluster(claim(OTHER, 99)), {"pool"}, "no block 99"),
    ],
)
def test_where_there_is_no_route_it_is_told(seen, subjects, says):
    wanted = want_routes(seen, ME, find_link)
    assert len(wanted.faults) == len(subjects)
    for subject, fault in wanted.faults.items():
        assert any(word in subject for word in subjects)
        assert says in fault


def test_one_node_without_a_way_costs_the_others_nothing():
    lost = NodeName("lost")
    wanted = want_routes(cluster(claim(lost, 0), claim(OTHER, 1)), ME, find_link)
    assert len(wanted.hops) == 2
    assert all("lost" in fault for fault in wanted.faults.values())
