"""coil-lab fail and heal: what breaks is seen, traffic finds another way, and all can be mended."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager

import pytest

from coil.lab.clos.faults import How
from coil.lab.clos.observe import observe
from coil.lab.clos.plan import Kind
from coil.lab.clos.programs import LAUNCHER
from coil.lab.clos.traffic import ping, trace
from coil.lab.errors import LabError
from coil.lab.wait import until

PARTS = {
    "link tor1 spine1": "link spine1 tor1",
    "router spine2": "router spine2",
    "node r2n1": "node r2n1",
    "etcd etcd3": "etcd etcd3",
    "coild r1n2": "coild r1n2",
    "bird r1n1": "bird r1n1",
    "controller r1n1": "controller r1n1",
}


def failed(lab):
    return observe(lab)["failed"]


def reaches(one, other):
    return all(ping(one, address, count=1).received for address in other.addresses)


def routers_between(lab, one, other):
    names = {str(address): name for address, name in lab.plan.names.items()}
    return [{hop.name for hop in trace(one, a, names)} for a in other.addresses]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_fails_and_heals_twice_and_status_tells(lab, command, part):
    for _ in range(2):
        assert command("fail", *part.split()) == f"{part} has failed\n"
        assert failed(lab) == [PARTS[part]]
    for _ in range(2):
        assert command("heal", *part.split()) == f"{part} is healed\n"
        assert failed(lab) == []


@pytest.mark.parametrize("part", ["etcd etcd1", "coild r1n1", "bird r2n2", "controller r2n1"])
def test_a_suspended_program_is_there_and_does_nothing_until_it_is_healed(lab, command, part):
    command("fail", *part.split(), "--how", "suspend")
    kind, name = part.split()
    row = next(r for r in [*observe(lab)["etcd"], *observe(lab)["nodes"]] if r["name"] == name)
    assert row[kind] == "suspended"
    command("heal", *part.split())
    assert failed(lab) == []


def test_a_cut_link_is_up_at_both_ends_and_traffic_goes_round_it(lab, pair):
    one, other = pair
    lab.faults.fail_link("tor1", "spine1")
    for host, ifname in (("tor1", "spine1"), ("spine1", "tor1")):
        assert lab.files.host(host).ip("link", "show", ifname)[0]["operstate"] == "UP"
    until(lambda: reaches(one, other), "traffic goes round the link")
    until(lambda: all("spine2" in way for way in routers_between(lab, one, other)), "by spine2")
    assert not any("spine1" in way for way in routers_between(lab, one, other))
    tor = lab.plan.machines["tor1"]
    # Where packets went by the other spine anyway, nobody had to notice yet.
    until(lambda: lab.machines.sessions(tor)["spine1_v4"] != "Established", "BFD notices")
    lab.faults.heal_link("tor1", "spine1")
    lab.machines.wait_sessions()


@pytest.mark.parametrize("spine", ["spine1", "spine2"])
def test_traffic_goes_round_a_lost_spine(lab, pair, spine):
    lab.faults.fail_router(spine)
    until(lambda: reaches(*pair), "traffic goes by the other spine")
    lab.faults.heal_router(spine)
    lab.machines.wait_sessions()
    until(lambda: reaches(*pair), "it is a way again")


def test_a_node_without_power_loses_its_pods_and_nobody_announces_its_blocks(lab, pair):
    one, other = pair
    block = observe(lab)["nodes"][3]["blocks"][0]["networks"][0]
    tor = lab.files.host("tor1")
    until(lambda: tor.ip("route", "show", block), "the block is announced")
    lab.faults.fail_node("r2n2")
    assert [pod.name for pod in lab.pods.every()] == ["a"]
    assert not other.host.path.exists()
    until(lambda: not tor.ip("route", "show", block), "the block is withdrawn")
    with pytest.raises(LabError, match="r2n2 is off; heal it first: coil-lab heal node r2n2"):
        lab.add_pod("b", "r2n2")
    lab.faults.heal_node("r2n2")
    assert observe(lab)["nodes"][3]["coild"] == "running"
    again = lab.add_pod("b", "r2n2")
    assert not set(again.addresses) & set(other.addresses)
    lab.machines.wait_sessions()
    until(lambda: reaches(one, again), "the node's block is announced again")


def test_pods_start_while_coild_is_away_as_soon_as_it_is_back(lab):
    lab.faults.fail_coild("r1n1")
    lab.faults.heal_coild("r1n1")
    assert lab.add_pod("a", "r1n1").addresses


def test_etcd_without_a_majority_is_told_and_comes_back(lab, command):
    lab.faults.fail_etcd("etcd1", How.SUSPEND)
    lab.faults.fail_etcd("etcd2")
    lab.faults.heal_etcd("etcd1")
    lab.faults.fail_etcd("etcd3")
    state = json.loads(command("status", "-o", "json"))
    assert state["failed"] == ["etcd etcd2", "etcd etcd3"]
    until(lambda: lab.machines.ask_leader() == "", "the leader has noticed that it is alone")
    fail_leader = ("fail", "etcd", "leader")
    until(lambda: "no leader now" in command(*fail_leader, status=1), "that nobody leads is told")
    lab.faults.heal_etcd("etcd3")
    lab.faults.heal_etcd("etcd2")
    until(lambda: [row["leader"] for row in observe(lab)["etcd"]].count(True) == 1, "one leads")


@contextmanager
def deaf_clients(lab):
    """The members of etcd run, and nobody gets an answer."""
    hosts = [lab.files.host(member) for member in lab.plan.of_kind(Kind.ETCD)]
    rule = ("INPUT", "-p", "tcp", "--dport", "2379", "-j", "DROP")
    for host in hosts:
        host.run("iptables", "-w", "-I", *rule)
    try:
        yield
    finally:
        for host in hosts:
            host.run("iptables", "-w", "-D", *rule)


def test_members_that_do_not_answer_are_not_taken_for_some_without_a_leader(lab, command):
    with deaf_clients(lab):
        assert lab.machines.ask_leader() is None
        assert "does not answer; try again, or name" in command("fail", "etcd", "leader", status=1)
    until(lab.machines.ask_leader, "they answer")


@pytest.fixture
def slow_to_execute(tmp_path, monkeypatch):
    """What is launched is executed a moment later, as on a machine that is busy."""
    launcher = tmp_path / LAUNCHER
    # $1 is --fork. The shell below has the name of this file, as setsid has its own.
    launcher.write_text(f'#!/bin/sh\nshift\n(sleep 0.5; exec {shutil.which(LAUNCHER)} "$@") &\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_a_router_and_its_bird_run_when_they_are_healed(lab, slow_to_execute):
    lab.faults.fail_bird("spine1")
    lab.faults.heal_bird("spine1")
    assert failed(lab) == []
    lab.faults.fail_router("spine2")
    lab.faults.heal_router("spine2")
    assert failed(lab) == []


def test_a_member_of_etcd_alone_runs_when_it_is_healed(lab, slow_to_execute):
    for member in lab.plan.of_kind(Kind.ETCD):
        lab.faults.fail_etcd(member.name)
    lab.faults.heal_etcd("etcd1")
    assert failed(lab) == ["etcd etcd2", "etcd etcd3"]


def test_up_heals_everything(lab, pair, command):
    lab.faults.fail_link("tor1", "spine2")
    lab.faults.fail_router("spine1")
    lab.faults.fail_node("r1n2")
    lab.faults.fail_etcd("etcd2", How.SUSPEND)
    lab.faults.fail_coild("r2n1", How.SUSPEND)
    lab.faults.fail_coild("r1n1")
    assert len(failed(lab)) == 6
    command("up")
    assert failed(lab) == []
    # A rack was cut off: its nodes announce their blocks when they have asked etcd, and not before.
    until(lambda: reaches(*pair), "all routes are back")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fail", "router", "r1n1"], "no spine or tor 'r1n1'; it has spine1, spine2, tor1, tor2"),
        (["fail", "node", "tor1"], "no node 'tor1'"),
        (["fail", "link", "tor1", "tor2"], "no link between tor1 and tor2; tor1 has links to"),
        (["heal", "etcd", "etcd9"], "no etcd 'etcd9'; it has etcd1, etcd2, etcd3"),
        (["fail", "bird", "r9n9"], "no machine 'r9n9'; it has"),
        (["fail", "controller", "r1n2"], "r1n2 has no controller; r1n1, r2n1 have one"),
        (["fail", "coild", "r1n1", "--how", "bite"], "'bite' is not one of"),
    ],
)
def test_what_cannot_fail_is_a_sentence(command, words, sentence):
    assert sentence in command(*words, status=2)


def test_what_depends_on_something_that_is_off_says_so(lab, command):
    lab.faults.fail_router("tor2")
    assert "tor2 is off; heal it first: coil-lab heal router tor2" in command(
        "fail", "link", "tor2", "spine1", status=1
    )
    assert "tor2 is off" in command("shell", "tor2", "--", "true", status=1)
