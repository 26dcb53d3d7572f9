"""The configurations of GoBGP that coil writes, run by real gobgpds with coil-gobgp beside them.

Debian's gobgpd 3.10 has no BFD; with GoBGP 4 (``make test-gobgp`` builds it) all of it runs again,
BFD on. tor2 runs BIRD.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner

from coil.ctl.main import main
from coil.lab.etcd import free_ports
from coil.lab.suspend import resume, suspend
from coil.lab.wait import until
from coil.routing.model import Timers
from coil.speakers.bgp import INCOMPLETE
from coil.speakers.gobgp import Gobgp
from coil.speakers.pulse import Sockets, find_silent
from routing.fabric import PATIENT, Fabric

V4, V6 = "10.64.0.0/27", "fd00:64::/123"
BOTH = ["tor1", "tor2"]
SHORT = Timers(hold=3, keepalive=1)
"""Where there is no BFD only this notices a silent link."""
BUILT = Path(__file__).parents[2] / "build" / "gobgp" / "gobgpd"
SLOW = 30
NONE = Path("/nonexistent")


@pytest.fixture(
    scope="module",
    params=[
        "gobgpd",
        pytest.param(str(BUILT), marks=pytest.mark.skipif(
            not BUILT.exists(), reason="GoBGP 4 is not built: make test-gobgp")),
    ],
    ids=["debian", "built"],
)  # fmt: skip
def routers(request, fabric):
    """The fabric with gobgpd on all routers but tor2."""
    with_bfd = request.param != "gobgpd"
    more = {"timers": PATIENT} if with_bfd else {"timers": SHORT, "bfd": None}
    for name in fabric.members:
        if name == "tor2":
            fabric.bird(name, **more)
        else:
            fabric.gobgp(name, program=request.param, **more)
    yield fabric
    fabric.show()
    for member in fabric.members.values():
        member.daemon.stop()
        member.host.run("ip", "route", "flush", "proto", "bgp")
        member.host.run("ip", "-6", "route", "flush", "proto", "bgp")


@pytest.fixture
def blocks(routers):
    """A block of both families at node1, gone at the end."""
    node = routers.members["node1"]
    node.own(V4, V6)
    until(lambda: both_ways(routers), "the block is learnt by both ToRs", SLOW)
    yield V4, V6
    node.disown(V4, V6)
    until(lambda: nowhere(routers), "the block is gone everywhere", SLOW)


def both_ways(fabric):
    return all(
        fabric.members[name].hops(network) == BOTH
        for name in ("spine", "node2")
        for network in (V4, V6)
    )


def nowhere(fabric):
    return not any(
        m.hops(n) for m in fabric.members.values() for n in (V4, V6) if m.name != "node1"
    )


def test_debians_gobgpd_takes_what_is_printed_when_nothing_is_said_of_bfd(tmp_path):
    words = ["--asn=65001", "--loopback=10.0.0.1", "--neighbour=10.9.0.0,65001,tor1"]
    done = CliRunner().invoke(main, ["router-config", "gobgp", *words])
    (tmp_path / "gobgpd.toml").write_text(done.stdout)
    checked = subprocess.run(
        ["gobgpd", "-d", "-f", tmp_path / "gobgpd.toml"], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout


def test_a_block_of_table_119_is_announced_everywhere_by_all_ways(routers, blocks):
    """Also the withdrawal, at the end of the fixture."""
    spine, node1, node2 = (routers.members[n] for n in ("spine", "node1", "node2"))
    assert spine.source(V4) == str(spine.loopbacks[0])
    assert node2.source(V6) == str(node2.loopbacks[1])
    until(lambda: node2.hops("10.0.0.4") == BOTH, "node2 has ways to node1", SLOW)
    far = [str(address) for address in (*node2.loopbacks, *spine.loopbacks)]
    until(lambda: all(map(node1.reaches, far)), "the ways back are there", SLOW)


def test_only_loopbacks_and_blocks_leave_a_node(routers, blocks):
    """No default route, no route of a link, nothing of table 119 that is not coild's."""
    node, spine = routers.members["node1"], routers.members["spine"]
    node.host.run("ip", "route", "add", "default", "via", str(node.neighbours[0].address))
    node.host.run("ip", "route", "add", "10.99.0.0/24", "dev", "lo", "table", "119")
    node.host.run("ip", "route", "add", "default", "dev", "lo", "table", "119", "proto", "30")
    node.own("10.64.0.64/27")
    until(lambda: spine.hops("10.64.0.64/27") == BOTH, "a later block is learnt", SLOW)
    loopbacks = {str(m.loopbacks[0]) for m in routers.members.values()} - {"10.0.0.1"}
    learnt = {V4, "10.64.0.64/27", *loopbacks}
    until(lambda: spine.destinations("-4") == learnt, "that and no more is learnt", SLOW)
    node.disown("10.64.0.64/27")
    node.host.run("ip", "route", "flush", "table", "119", "exact", "0.0.0.0/0")
    node.host.run("ip", "route", "del", "10.99.0.0/24", "table", "119")
    node.host.run("ip", "route", "del", "default")


def test_a_tor_is_no_way_from_one_spine_to_another(routers, blocks):
    tor = routers.members["tor1"]
    until(lambda: routers.members["node1"].hops("10.0.0.1") == BOTH, "nodes hear of spines", SLOW)
    (up,) = (str(n.address) for n in tor.neighbours if n.name == "spine" and n.version == 4)
    assert told(tor, V4, up)
    assert told(tor, "10.0.0.2/32", up)
    assert not told(tor, "10.0.0.1/32", up)


def test_a_silent_link_is_noticed(routers, blocks):
    """By BFD where there is one (BGP itself would wait 90 s), else by the hold time of 3 s."""
    tor, spine = routers.members["tor1"], routers.members["spine"]
    tor.silence("spine")
    until(lambda: all(spine.hops(n) == ["tor2"] for n in blocks), "one way", SLOW)
    tor.unsilence("spine")
    until(lambda: both_ways(routers), "both ways again", SLOW)


def test_a_restart_of_either_cuts_nothing_off(routers, blocks):
    """Of coil-gobgp: what changed meanwhile is told. Of gobgpd: it is told all again."""
    node, spine = routers.members["node1"], routers.members["spine"]
    later = "10.64.0.96/27"
    node.own(later)
    until(lambda: spine.hops(later) == BOTH, "another block is learnt", SLOW)
    node.daemon.kill("coil-gobgp")
    node.disown(later)
    assert spine.hops(later) == BOTH
    node.daemon.start_bridge("--settle=2")
    until(lambda: spine.hops(later) is None, "what was withdrawn meanwhile is gone", SLOW)
    sockets = Sockets(bird=NONE, frr=NONE, gobgp=node.daemon.endpoint)
    until(lambda: not find_silent(sockets), "gobgpd answers")
    node.daemon.kill("gobgpd")
    ways = node.hops("10.0.0.1")
    assert ways == BOTH
    assert find_silent(sockets) == {186}
    node.daemon.start_gobgpd()
    until(lambda: both_ways(routers), "all is announced again", SLOW)
    # Its kernel has what coil-gobgp learns from gobgpd, a little later than others are told.
    until(lambda: node.hops("10.0.0.1") == ways, "its own ways are as before", SLOW)


def test_what_others_announce_by_gobgp_is_left_alone(routers, blocks):
    node, spine = routers.members["node1"], routers.members["spine"]
    foreign = ip_network("10.98.0.0/24")
    with Gobgp(node.daemon.endpoint) as gobgp:
        gobgp.announce(foreign, origin=INCOMPLETE)
        node.own("10.64.0.128/27")
        until(lambda: spine.hops("10.64.0.128/27") == BOTH, "a pass is over", SLOW)
        assert spine.hops(str(foreign)) == BOTH
        gobgp.withdraw(foreign)
    node.disown("10.64.0.128/27")
    until(lambda: spine.hops(str(foreign)) is None, "it is withdrawn", SLOW)


def test_a_gobgpd_that_hangs_is_silent():
    (port,) = free_ports(1)
    sockets = Sockets(bird=NONE, frr=NONE, gobgp=f"127.0.0.1:{port}")
    assert find_silent(sockets) == {186}
    with subprocess.Popen(["gobgpd", "--api-hosts", sockets.gobgp]) as gobgpd:
        try:
            until(lambda: not find_silent(sockets), "it answers")
            suspend(gobgpd.pid)
            assert find_silent(sockets) == {186}
            resume(gobgpd.pid)
            until(lambda: not find_silent(sockets), "it answers again")
        finally:
            gobgpd.kill()


def test_a_link_that_goes_down_is_out_of_use_at_once(tmp_path):
    """Whatever the sessions' timers say; and in use again when it is up."""
    with ExitStack() as stack:
        fabric = Fabric(stack, tmp_path)
        for name, role in (("node", "node"), ("tor1", "tor"), ("tor2", "tor")):
            fabric.add(name, role, 65001)
        fabric.add("spine", "spine", 65000)
        for tor in ("tor1", "tor2"):
            fabric.link("node", tor)
            fabric.link(tor, "spine")
            fabric.bird(tor, timers=PATIENT, bfd=None)
        fabric.bird("spine", timers=PATIENT, bfd=None)
        fabric.gobgp("node", timers=PATIENT, bfd=None)
        node, spine = fabric.members["node"], ("10.0.0.4", "fd00::4")
        until(lambda: all(node.hops(n) == BOTH for n in spine), "both ways", SLOW)
        node.host.run("ip", "link", "set", "tor1", "down")
        until(lambda: all(node.hops(n) == ["tor2"] for n in spine), "one way", SLOW)
        node.host.run("ip", "link", "set", "tor1", "up")
        until(lambda: all(node.hops(n) == BOTH for n in spine), "both ways again", SLOW)
        fabric.show()


def told(member, network, session):
    """Whether a gobgpd tells a network to a neighbour."""
    with Gobgp(member.daemon.endpoint) as gobgp:
        (found,) = gobgp.find_pickups([ip_network(network)])
    return session in found.announced_to
