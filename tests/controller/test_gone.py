"""Blocks of nodes that are gone come back, and all others stay: on real etcd and coilds."""

from __future__ import annotations

import signal

import pytest

from coil.controller import steps
from coil.lab.suspend import resume
from coil.lab.wait import until
from controller.conftest import KILLER
from daemon.conftest import pool_of

POOL = pool_of("10.77.0.0/24", block_bits=2, cool_down=0)
TINY = pool_of("10.77.0.0/30", block_bits=2, cool_down=0)


def exported(machine):
    return set(machine.routes(119))


def announces(machine, block):
    """Also before its table is there."""
    return block in machine.host.run("ip", "route", "show", "table", "119", check=False).stdout


def names(machine):
    """Of the nodes that have a record or blocks."""
    return {*machine.nodes(), *owners(machine)}


def owners(machine):
    return {row["node"] for row in machine.claims()}


def power_off(cluster, *machines):
    """The machines are off: nothing of them runs, answers or announces."""
    for machine in machines:
        machine.kill()
    for machine in machines:
        machine.host.run("ip", "route", "flush", "table", "119")
        cluster.unplug(machine)
    lose_lease(cluster, *machines)


def collected(*controllers):
    """The nodes that were collected, by all that these controllers logged."""
    return [each["node"] for found in controllers for each in found.events("node collected")]


def gone_from_store(cluster, name):
    return name not in cluster.member.ctl("get", "--prefix", "/t/", "--keys-only").stdout


def lose_lease(cluster, *machines):
    """As it goes by itself some seconds later; of neighbours by name, at the same moment."""
    first, last = machines[0].name, machines[-1].name
    cluster.member.ctl("del", f"/t/alive/{first}", f"/t/alive/{last}!")


def test_blocks_of_a_node_that_is_gone_go_to_others_and_it_does_not_get_them_back(
    cluster, controller, pods
):
    gone, other = cluster.node(pool=TINY), cluster.node()
    gone.add("c1", pods())
    (block,) = exported(gone)
    power_off(cluster, gone)
    until(lambda: collected(controller), "the node is collected")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "another node has the block")
    assert exported(other) == {block}
    assert collected(controller) == ["n0"]
    assert names(other) == {"n1"}
    cluster.plug(gone)
    gone.start("--period=1")
    until(lambda: names(other) == {"n0", "n1"}, "the node is back")
    assert gone.cni("ADD", "c2", pods(), timeout=3).code == 11
    assert exported(gone) == set()
    gone.delete("c1")


def test_a_node_that_was_cut_off_from_all_never_announces_a_block_beside_its_new_owner(
    cluster, controller, pods
):
    """Its coild runs all the while: nobody tells it that it is taken for gone."""
    lost, other = cluster.node(pool=TINY), cluster.node()
    lost.add("c1", pods())
    (block,) = exported(lost)
    both = []

    def watched(condition):
        def ask():
            if announces(lost, block) and announces(other, block):
                both.append(block)
            return condition()

        return ask

    cluster.unplug(lost)
    until(watched(lambda: collected(controller)), "the node is collected", 60)
    until(watched(lambda: other.cni("ADD", "c1", pods()).status == 0), "it has the block")
    assert exported(other) == {block}
    cluster.plug(lost)
    until(watched(lambda: names(other) == {"n0", "n1"}), "the node is back")
    until(watched(lambda: not lost.claims("n0")), "it owns nothing")
    assert exported(lost) == set()
    assert not both
    lost.delete("c1")


def test_a_node_that_only_lost_the_store_keeps_its_blocks_and_is_reported(
    cluster, controller, pods
):
    lost, _other = cluster.node(pool=POOL), cluster.node()
    lost.add("c1", pods())
    before = exported(lost)
    cluster.cut(lost)
    lose_lease(cluster, lost)
    problem = until(lambda: controller.problems("node").get("n0"), "it is reported")
    assert "answers on its addresses" in problem
    assert 'coil_controller_nodes{state="overdue"} 1.0' in controller.get("/metrics")
    assert exported(lost) == before
    cluster.heal(lost)
    until(lambda: not controller.problems("node"), "the problem goes")
    assert lost.name in owners(lost)
    assert not controller.events("node is gone")


def test_a_controller_that_reaches_no_node_takes_nothing(cluster, controller):
    gone, other = cluster.node(pool=POOL), cluster.node()
    cluster.member.host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    power_off(cluster, gone)
    problem = until(lambda: controller.problems("node").get("n0"), "it is reported")
    assert "no other node answers us" in problem
    assert "coilctl node release n0" in problem
    assert owners(other) == {"n0", "n1"}
    cluster.member.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    until(lambda: collected(controller), "the node is collected")


def test_when_many_are_missing_at_once_nothing_is_taken(cluster, controller):
    # No lease ends by itself before both machines are off.
    nodes = [cluster.node(pool=None if number else POOL, period=5) for number in range(3)]
    power_off(cluster, *nodes[:2])
    problems = until(
        lambda: len(found := controller.problems("node")) == 2 and found, "both are reported", 30
    )
    assert "2 of 3 nodes" in problems["n0"]
    assert owners(nodes[2]) == {"n0", "n1", "n2"}
    nodes[2].ctl("node", "release", "n0", "--yes")
    until(lambda: collected(controller), "the other is collected")


def test_an_outage_of_the_store_makes_nobody_overdue(cluster, controller):
    nodes = [cluster.node(pool=POOL), cluster.node()]
    cluster.member.suspend()
    until(lambda: controller.problems("leader"), "it is noticed")
    until(lambda: not controller.leads, "it does not lead")
    cluster.member.resume()
    until(lambda: controller.leads and not controller.problems("store"), "it leads again")
    until(lambda: names(nodes[0]) == {"n0", "n1"}, "all nodes are there")
    assert not controller.events("node is gone")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_another_replica_goes_on_where_the_leader_ended(cluster, controllers, number):
    first, second = controllers(), controllers()
    first.start()
    until(lambda: first.leads, "the first leads")
    second.start()
    until(second.status, "the second serves")
    gone, _other = cluster.node(pool=POOL), cluster.node()
    assert first.leads
    assert not second.leads
    first.fail(number)
    power_off(cluster, gone)
    until(lambda: gone_from_store(cluster, "n0"), "the node is collected")
    if number is signal.SIGSTOP:
        resume(first.process.pid)
        until(lambda: first.status().get("leading") is False, "the first stands by")
    assert second.leads
    until(lambda: collected(first, second) == ["n0"], "it says so")
    assert not first.events("block taken back")


def test_a_leader_that_ends_in_peace_is_followed_at_once(controllers):
    first, second = controllers(), controllers()
    first.start("--lease=600")
    until(lambda: first.leads, "the first leads")
    second.start()
    until(second.status, "the second serves")
    assert first.stop() == 0
    until(lambda: second.leads, "the second leads")


@pytest.mark.parametrize("step", steps.ALL)
def test_a_controller_killed_at_any_step_is_continued(cluster, controllers, pods, step):
    gone = cluster.node(pool=pool_of("10.77.0.0/29", block_bits=2, cool_down=0))
    netns = pods(5)
    for number in range(5):
        gone.add(f"c{number}", netns[number])
    other = cluster.node()
    assert len(other.claims("n0")) == 2
    first, second = controllers(), controllers()
    first.start(program=(*KILLER, f"{step}:1"))
    power_off(cluster, gone)
    assert first.process.wait(40) == -signal.SIGKILL
    second.start()
    until(lambda: gone_from_store(cluster, "n0"), "the node is collected")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "its blocks are free")


def test_what_cannot_be_read_is_told_left_alone_and_in_nobodys_way(cluster, controller):
    gone, other = cluster.node(pool=POOL), cluster.node()
    foreign = ["/t/nodes/Odd Name", "/t/blocks/default/x", "/t/owned/n9/default/1", "/t/pools/z!"]
    for key in foreign:
        cluster.member.ctl("put", key, "what?")
    problems = until(
        lambda: len(found := controller.problems("unreadable")) == 4 and found, "it is told", 20
    )
    assert sorted(problems) == sorted(foreign)
    power_off(cluster, gone)
    until(lambda: collected(controller), "the node is collected")
    assert owners(other) == {"n1"}
    for key in foreign:
        assert cluster.member.ctl("get", "--print-value-only", key).stdout.strip() == "what?"
