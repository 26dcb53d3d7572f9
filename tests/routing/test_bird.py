"""The configurations of BIRD that coil writes, run by real BIRDs: one rack below a spine."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from coil.lab.wait import until
from coil.routing.bird import IS_AGGREGATE, IS_OF_RACK, aggregates_config
from coil.speakers.bird import list_bird_routes
from routing.fabric import PATIENT, Fabric

V4, V6 = "10.64.0.0/27", "fd00:64::/123"
BOTH = ["tor1", "tor2"]


@pytest.fixture(scope="module", autouse=True)
def _daemons(fabric):
    for name in fabric.members:
        fabric.bird(name, timers=PATIENT)


@pytest.fixture
def blocks(fabric):
    """A block of both families at node1, gone at the end."""
    node = fabric.members["node1"]
    node.own(V4, V6)
    yield V4, V6
    node.disown(V4, V6)
    until(lambda: everywhere(fabric, lambda hops: not hops), "the block is gone everywhere")


def everywhere(fabric, right):
    """Whether the hops of every router but node1 are ``right`` for the block, in both families."""
    others = (member for name, member in fabric.members.items() if name != "node1")
    return all(right(member.hops(network)) for member in others for network in (V4, V6))


def test_a_block_of_table_119_is_announced_everywhere_and_withdrawn(fabric):
    node, spine = fabric.members["node1"], fabric.members["spine"]
    node.own(V4, V6)
    until(lambda: everywhere(fabric, lambda hops: hops), "the block is learnt")
    node.disown(V4, V6)
    until(lambda: spine.hops(V4) is None and spine.hops(V6) is None, "it is withdrawn")


def test_all_ways_are_used(fabric, blocks):
    """ECMP: over both ToRs, from the spine and from the other node of the rack."""
    for name in ("spine", "node2"):
        for network in blocks:
            until(lambda n=name, b=network: fabric.members[n].hops(b) == BOTH, "both ways")
            source = fabric.members[name].loopbacks[0 if network == V4 else 1]
            assert fabric.members[name].source(network) == str(source)
    node1, node2 = fabric.members["node1"], fabric.members["node2"]
    until(lambda: all(node1.reaches(str(a)) for a in node2.loopbacks), "the way back is there")


def test_only_loopbacks_and_blocks_leave_a_node(fabric, blocks):
    """No default route, no route of a link, nothing of table 119 that is not coild's."""
    node, spine = fabric.members["node1"], fabric.members["spine"]
    node.host.run("ip", "route", "add", "default", "via", str(node.neighbours[0].address))
    node.host.run("ip", "route", "add", "10.99.0.0/24", "dev", "lo", "table", "119")
    node.host.run("ip", "route", "add", "default", "dev", "lo", "table", "119", "proto", "30")
    until(lambda: everywhere(fabric, lambda hops: hops), "the block is learnt")
    loopbacks = {str(m.loopbacks[0]) for m in fabric.members.values()} - {"10.0.0.1"}
    until(lambda: spine.destinations("-4") == {V4, *loopbacks}, "that and no more is learnt")
    node.host.run("ip", "route", "flush", "table", "119", "exact", "0.0.0.0/0")
    node.host.run("ip", "route", "del", "10.99.0.0/24", "table", "119")


def test_nobody_takes_a_block_from_its_owner_by_announcing_it_too(fabric, blocks):
    owner, thief = fabric.members["node1"], fabric.members["node2"]
    thief.own(V4)
    tor = fabric.members["tor1"]
    until(lambda: "node2" in (tor.hops(V4) or []), "both announce it")
    thief.disown(V4)
    until(lambda: tor.hops(V4) == ["node1"], "one announces it")
    assert owner.hops(V4) is None
    assert "blocks_kernel4" in owner.daemon.ctl("show", "route", V4).stdout


def test_a_tor_is_no_way_from_one_spine_to_another(fabric):
    """What a ToR heard from a spine it tells to nodes only."""
    tor = fabric.members["tor1"]
    until(lambda: fabric.members["node1"].hops("10.0.0.1") == BOTH, "nodes hear of the spine")
    told = tor.daemon.ctl("show", "route", "export", "spine_v4").stdout
    assert "10.0.0.2/32" in told
    assert "10.0.0.1/32" not in told


def test_a_silent_link_is_noticed_by_bfd(fabric, blocks):
    """Nothing goes down, nothing comes through; BGP itself would wait 90 seconds here."""
    tor, spine = fabric.members["tor1"], fabric.members["spine"]
    until(lambda: spine.hops(V4) == BOTH and spine.hops(V6) == BOTH, "both ways")
    tor.silence("spine")
    until(lambda: spine.hops(V4) == ["tor2"] and spine.hops(V6) == ["tor2"], "one way")
    tor.unsilence("spine")
    until(lambda: spine.hops(V4) == BOTH and spine.hops(V6) == BOTH, "both ways again")


def test_a_neighbour_may_be_called_like_what_is_the_routers_own(tmp_path):
    """A session has its neighbour's name: what it brings is neither a block nor an aggregate."""
    with ExitStack() as stack:
        fabric = Fabric(stack, tmp_path)
        tor = fabric.add("blocks1", "tor", 65001)
        node = fabric.add("aggregates1", "node", 65001)
        fabric.link("blocks1", "aggregates1")
        file = tmp_path / "aggregates.conf"
        file.write_text(aggregates_config([], []))
        fabric.bird("blocks1", aggregates=str(file))
        fabric.bird("aggregates1")
        node.own(V4)
        until(lambda: tor.hops(V4), "the ToR has the node's block")
        until(lambda: node.hops("10.0.0.1"), "the node believes the ToR")
        socket = tor.daemon.socket
        of_rack, aggregates = list_bird_routes(socket, IS_OF_RACK, IS_AGGREGATE)
        assert V4 in map(str, of_rack)
        assert not aggregates
