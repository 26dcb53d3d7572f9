"""Faults that must be survived, with real traffic and churn while they last."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from coil.lab.clos.faults import How
from coil.lab.clos.plan import Kind
from coil.lab.wait import until
from lab.storm import alive, pings, storm, together

pytestmark = pytest.mark.timeout(240)


def members(lab):
    return [member.name for member in lab.plan.of_kind(Kind.ETCD)]


@contextmanager
def hanging(lab):
    """All members of etcd keep silent."""
    try:
        together(lambda name: lab.faults.fail_etcd(name, How.SUSPEND), members(lab))
        yield
    finally:
        together(lab.faults.heal_etcd, members(lab))


@contextmanager
def cut_off(lab, node):
    """Nothing that this node sends to etcd goes anywhere; all else does."""
    addresses = [str(a) for m in lab.plan.of_kind(Kind.ETCD) for a in m.loopbacks]
    for address in addresses:
        node.host.run("ip", "route", "add", "blackhole", address, "metric", "1")
    try:
        yield
    finally:
        for address in addresses:
            node.host.run("ip", "route", "delete", "blackhole", address, "metric", "1")


def test_the_leader_of_etcd_is_killed(lab, pair):
    with storm(lab) as churn, pings(*pair) as lost:
        leader = until(lab.machines.leader, "etcd has a leader")
        lab.faults.fail_etcd(leader)
        until(lambda: lab.machines.leader() not in ("", leader), "another leads")
        churn.wait_more(20)
        lab.faults.heal_etcd(leader)
        churn.wait_more(10)
    # A node whose addresses all rest needs a block, and a claim may meet the election.
    assert churn.refused(11) == []
    assert lost.unharmed
    churn.check()


def test_all_of_etcd_hangs_for_a_minute(lab, pair):
    """ADD and DEL go on from what each node owns, and are settled afterwards."""
    with storm(lab) as churn:
        with pings(*pair) as lost, hanging(lab):
            until_over = time.monotonic() + 60
            for name in churn.nodes:
                churn.wait_more_on(name, 5, seconds=50)
            exported = {name: node.exported() for name, node in churn.nodes.items()}
            until(lambda: time.monotonic() > until_over, "a minute is over", 70)
            assert all(exported.values())
            assert {name: node.exported() for name, node in churn.nodes.items()} == exported
        until(lambda: len(alive(next(iter(churn.nodes.values())))) == 4, "all are back")
        churn.wait_more(20)
        churn.end()
        churn.check_settled()
    assert lost.unharmed
    # A node without a free address says "try again later" while nobody can give it a block.
    assert churn.refused(11) == []
    churn.check()


def test_one_node_is_cut_off_from_etcd(lab, pair):
    with storm(lab) as churn, pings(*pair) as lost:
        node, other = churn.nodes["r1n1"], churn.nodes["r1n2"]
        with cut_off(lab, node):
            until(lambda: "r1n1" not in alive(other), "its lease has ended")
            exported = node.exported()
            churn.wait_more_on("r1n1", 10)
            # Nothing is taken from it on a missed lease, and it gives nothing up.
            rows = other.claims("r1n1")
            assert exported
            assert {n for row in rows for n in row["networks"] if "." in n} >= exported
            assert node.exported() == exported
        until(lambda: "r1n1" in alive(other), "it is back")
        churn.end()
        churn.check_settled()
    assert lost.unharmed
    assert churn.refused(11) == []
    churn.check()
