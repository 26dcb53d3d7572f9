"""The configurations of FRR that coil writes, run by real FRRs, with BIRD among the neighbours.

node1 (both families) has its blocks in the main table, node2 (IPv4) in table 119: FRR 8.4 imports
no IPv6 routes from another table than main. tor2 runs BIRD.
"""

from __future__ import annotations

import pytest

from coil.lab.suspend import resume, suspend
from coil.lab.wait import until
from coil.speakers.pulse import Sockets, find_silent
from routing.fabric import PATIENT

V4, V6, OF_NODE2 = "10.64.0.0/27", "fd00:64::/123", "10.64.0.32/27"
BOTH = ["tor1", "tor2"]
SLOW = 30
"""Seconds. bgpd waits some before its first attempt to connect."""


@pytest.fixture(scope="module", autouse=True)
def _daemons(fabric):
    fabric.frr("spine", timers=PATIENT)
    fabric.frr("tor1", timers=PATIENT)
    fabric.bird("tor2", timers=PATIENT)
    fabric.frr("node1", timers=PATIENT, export_table=254)
    fabric.frr("node2", timers=PATIENT, families=(4,))


@pytest.fixture
def blocks(fabric):
    """A block of both families at node1, gone at the end."""
    node, spine = fabric.members["node1"], fabric.members["spine"]
    node.own(V4, V6, table="main")
    yield V4, V6
    node.disown(V4, V6, table="main")
    until(lambda: spine.hops(V4) is None and spine.hops(V6) is None, "the block is gone", SLOW)


def test_blocks_in_main_are_announced_in_both_families_by_all_ways(fabric, blocks):
    spine, node2 = fabric.members["spine"], fabric.members["node2"]
    for network in blocks:
        until(lambda n=network: spine.hops(n) == BOTH, f"{network} by both ToRs", SLOW)
    until(lambda: node2.hops(V4) == BOTH, "the rack's other node has it", SLOW)
    assert spine.source(V4) == "10.0.0.1"
    assert node2.source(V4) == "10.0.0.5"
    until(lambda: node2.reaches("10.0.0.4"), "the way back is there", SLOW)


def test_blocks_in_table_119_are_announced_and_withdrawn(fabric):
    node, spine = fabric.members["node2"], fabric.members["spine"]
    node.own(OF_NODE2)
    until(lambda: spine.hops(OF_NODE2) == BOTH, "the block is learnt", SLOW)
    node.disown(OF_NODE2)
    until(lambda: spine.hops(OF_NODE2) is None, "the block is withdrawn", SLOW)


def test_only_loopbacks_and_blocks_leave_a_node(fabric, blocks):
    """No default route, and nothing of main that does not lead to lo."""
    node, spine = fabric.members["node1"], fabric.members["spine"]
    node.host.run("ip", "route", "add", "default", "via", str(node.neighbours[0].address))
    node.host.run("ip", "route", "add", "10.99.0.0/24", "via", str(node.neighbours[0].address))
    node.own("10.64.0.64/27", table="main")
    until(lambda: spine.hops("10.64.0.64/27") == BOTH, "a later block is learnt", SLOW)
    loopbacks = {str(m.loopbacks[0]) for m in fabric.members.values()} - {"10.0.0.1"}
    learnt = {V4, "10.64.0.64/27", *loopbacks}
    until(lambda: spine.destinations("-4") == learnt, "that and no more is learnt", SLOW)
    node.disown("10.64.0.64/27", table="main")


def test_a_tor_is_no_way_from_one_spine_to_another(fabric):
    tor = fabric.members["tor1"]
    until(lambda: fabric.members["node1"].hops("10.0.0.1") == BOTH, "nodes hear of spines", SLOW)
    (up,) = (str(n.address) for n in tor.neighbours if n.name == "spine" and n.version == 4)
    told = tor.daemon.vtysh("-c", f"show bgp ipv4 unicast neighbors {up} advertised-routes").stdout
    assert "10.0.0.2/32" in told
    assert "10.0.0.1/32" not in told


def test_a_silent_link_is_noticed_by_bfd(fabric, blocks):
    """Between FRR and FRR, and between BIRD and FRR; BGP itself would wait 90 seconds here."""
    spine = fabric.members["spine"]
    for tor, other in (("tor1", "tor2"), ("tor2", "tor1")):
        until(lambda: all(spine.hops(n) == BOTH for n in blocks), "both ways", SLOW)
        fabric.members[tor].silence("spine")
        until(lambda o=other: all(spine.hops(n) == [o] for n in blocks), "one way", SLOW)
        fabric.members[tor].unsilence("spine")


def test_a_bgpd_that_hangs_is_silent_and_so_count_its_routes_in_the_kernel(fabric):
    node = fabric.members["node2"]
    sockets = Sockets(bird=node.daemon.sockets / "none", frr=node.daemon.sockets / "bgpd.vty")
    bgpd = int((node.daemon.sockets / "bgpd.pid").read_text())
    until(lambda: node.hops("10.0.0.1") == BOTH, "it has learnt ways to others", SLOW)
    protocols = {route["protocol"] for route in node.host.ip("route") if "nexthops" in route}
    assert protocols == {"bgp"}  # 186
    until(lambda: not find_silent(sockets), "bgpd answers")
    suspend(bgpd)
    try:
        assert find_silent(sockets) == {186}
    finally:
        resume(bgpd)
    until(lambda: not find_silent(sockets), "it answers again")
