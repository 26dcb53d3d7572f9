"""coilctl explain asks the routing daemon that runs: a node with coild, below one ToR."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from coil.lab.wait import until
from daemon.conftest import machine, machines, pods
from routing.fabric import Fabric

__all__ = ["machine", "machines", "pods"]

BLOCK = ["10.66.0.0/27", "fd00:66::/123"]


@pytest.fixture
def node(machine, tmp_path):
    """A node whose coild runs and has a pod, and a ToR that runs BIRD."""
    tmp_path.chmod(0o755)  # FRR's daemons run as a user of their own
    with ExitStack() as stack:
        fabric = Fabric(stack, tmp_path)
        fabric.add("node", "node", 65001, machine.host)
        fabric.add("tor", "tor", 65001)
        fabric.link("node", "tor")
        fabric.bird("tor")
        machine.add("c1", machine.pods())
        machine.fabric, machine.daemons = fabric, {}
        yield machine
        fabric.show()


def explain(node, *options):
    """What explain says of routing; daemons are looked for in the test's own places only."""
    none = node.directory / "none"
    places = {"bird-socket": none, "frr-socket": none, "gobgp": f"unix:{none}", **node.daemons}
    given = [f"--{name}={place}" for name, place in places.items()]
    return node.ctl("explain", "c1", *given, *options)


def routing(node):
    return json.loads(explain(node, "-o", "json").stdout)["routing"]


def announced(node, sessions):
    found = routing(node)["blocks"]
    return [(b["network"], b["learnt"], b["announced_to"]) for b in found] == [
        (network, True, [session]) for network, session in zip(BLOCK, sessions, strict=True)
    ]


def test_without_a_routing_daemon_explain_says_so_and_all_the_rest(node):
    found = json.loads(explain(node, "-o", "json").stdout)
    assert found["addresses"] == ["10.66.0.0", "fd00:66::"]
    assert found["routing"]["daemon"] is None
    assert "no routing daemon" in found["routing"]["problem"]
    assert "no routing daemon" in explain(node).stdout


def test_bird_is_asked_what_it_learnt_and_whom_it_tells(node):
    node.fabric.bird("node")
    node.daemons["bird-socket"] = node.fabric.members["node"].daemon.socket
    until(lambda: announced(node, ["tor_v4", "tor_v6"]), "the block is announced")
    assert routing(node)["problem"] == ""
    assert "10.66.0.0/27: learnt by BIRD, announced to tor_v4" in explain(node).stdout
    node.fabric.members["tor"].daemon.stop()
    until(lambda: "announces" in routing(node)["problem"], "nobody is there to be told")


def test_a_bird_that_does_not_import_the_export_table_is_found_out(node):
    node.fabric.bird("node", export_table=5)
    node.daemons["bird-socket"] = node.fabric.members["node"].daemon.socket
    found = routing(node)
    assert [(b["network"], b["learnt"]) for b in found["blocks"]] == [(n, False) for n in BLOCK]
    assert "has not learnt 10.66.0.0/27, fd00:66::/123" in found["problem"]


def test_frr_is_asked_what_it_learnt_and_whom_it_tells(node):
    node.stop()
    node.start("--export-table=254")
    node.fabric.frr("node", export_table=254)
    member = node.fabric.members["node"]
    node.daemons["frr-socket"] = member.daemon.sockets / "bgpd.vty"
    sessions = [str(neighbour.address) for neighbour in member.neighbours]
    until(lambda: announced(node, sessions), "the block is announced")
    assert routing(node)["daemon"] == "FRR"


def test_gobgp_is_asked_what_it_learnt_and_whom_it_tells(node):
    """coil-gobgp has given it the block of table 119; and the pod is reached by that route."""
    node.fabric.gobgp("node", bfd=None)
    member, tor = node.fabric.members["node"], node.fabric.members["tor"]
    node.daemons["gobgp"] = member.daemon.endpoint
    sessions = [str(neighbour.address) for neighbour in member.neighbours]
    until(lambda: announced(node, sessions), "the block is announced")
    assert routing(node)["daemon"] == "GoBGP"
    assert "10.66.0.0/27: learnt by GoBGP, announced to 172.30" in explain(node).stdout
    until(lambda: tor.hops(BLOCK[0]) and tor.hops(BLOCK[1]), "the ToR has the block")
    for address in ("10.66.0.0", "fd00:66::"):
        until(lambda to=address: tor.reaches(to), f"{address} answers")
    member.daemon.kill("coil-gobgp")
    member.daemon.kill("gobgpd")
    member.daemon.start_gobgpd()
    until(lambda: "does coil-gobgp run" in routing(node)["problem"], "nobody tells gobgpd")
