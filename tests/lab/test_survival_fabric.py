"""Links, a spine, a ToR that are lost while pods talk, and come and go, on all nodes."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from coil.lab.clos.traffic import trace
from coil.lab.wait import until
from lab.storm import alive, pings, storm

pytestmark = pytest.mark.timeout(240)

ANOTHER_WAY = 10.0
"""Seconds without an answer: what a busy machine may make of BFD's 0.6, and a third of what BGP
alone would take to notice."""


@contextmanager
def lost(fail, heal, *names):
    """A part is lost; everything is as before at the end."""
    try:
        fail(*names)
        yield
    finally:
        heal(*names)


def spine_of(lab, one, other):
    """By which spine packets go to the first address of a pod now."""
    names = {str(address): name for address, name in lab.plan.names.items()}

    def find():
        hops = trace(one, other.addresses[0], names)
        return next((hop.name for hop in hops if hop.name.startswith("spine")), None)

    return until(find, "a spine answers")


def problems(node, names):
    """What the controller of a node, if it leads, reports of these; empty unless it names all."""
    done = node.host.run("curl", "-s", "-m2", "http://127.0.0.1:9385/status", check=False)
    rows = json.loads(done.stdout or "{}").get("problems", [])
    told = {row["subject"]: row["problem"] for row in rows if row["kind"] == "node"}
    return told if names <= told.keys() else {}


def says_doubt(answer):
    """Whether the plugin refused because the node may have lost its blocks."""
    return any(words in str(answer) for words in ("may be others'", "stood still"))


def test_a_link_and_then_a_spine_are_lost_and_nodes_do_not_even_notice(lab, pair):
    faults = lab.faults
    with storm(lab) as churn, pings(*pair) as packets:
        with lost(faults.fail_link, faults.heal_link, "tor1", spine_of(lab, *pair)):
            packets.wait_more()
            churn.wait_more(20)
        lab.machines.wait_sessions()
        with lost(faults.fail_router, faults.heal_router, spine_of(lab, *pair)):
            packets.wait_more()
            churn.wait_more(20)
            until(lambda: alive(churn.nodes["r1n1"]) == set(churn.nodes), "all are heard")
        lab.machines.wait_sessions()
        churn.wait_more(20)
        churn.end()
        churn.check_settled()
    assert packets.found[0].lost > 1
    assert packets.outage < ANOTHER_WAY
    # One without a free address asks etcd, which may take longer than the lab gives it just then.
    assert churn.refused(11) == []
    churn.check()


def test_a_rack_loses_its_tor_and_keeps_its_blocks(lab):
    """It may be missing for longer than the grace: who misses many at once is ill itself."""
    near = lab.add_pod("a", "r1n1"), lab.add_pod("b", "r1n2")
    far = lab.add_pod("c", "r1n1"), lab.add_pod("d", "r2n2")
    faults = lab.faults
    with storm(lab) as churn, pings(*far):
        watcher, cut = churn.nodes["r1n1"], {"r2n1", "r2n2"}
        with pings(*near) as unaware, lost(faults.fail_router, faults.heal_router, "tor2"):
            until(lambda: alive(watcher) == {"r1n1", "r1n2"}, "a rack is missing", 40)
            for name in cut:
                until(lambda node=churn.nodes[name]: not node.exported(), f"{name} withdraws")
            told = until(lambda: problems(watcher, cut), "the controller tells", 60)
            for name in ("r1n1", "r1n2"):
                churn.wait_more_on(name, 10)
        lab.machines.wait_sessions()
        for name in cut:
            churn.wait_more_on(name, 10)
        churn.end()
        churn.check_settled()
    assert unaware.unharmed
    assert all("taken for an outage" in text for text in told.values())
    # Those that nobody hears give no addresses for as long as they may be taken for gone. Any node
    # without a free one may have to wait for etcd, which lost a member with the rack.
    assert {each[1][:2] for each in churn.refused() if says_doubt(each[2])} <= {"r2"}
    assert churn.refused(11) == []
    churn.check()
