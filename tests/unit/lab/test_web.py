"""What the page is told of: what has changed, and packets."""

from __future__ import annotations

import copy
from ipaddress import ip_address

import pytest

from coil.lab.clos.pods import Pod
from coil.lab.clos.web.changes import changes
from coil.lab.clos.web.pings import Ping
from coil.lab.host import Host


def machine(name, **more):
    return {"name": name, "state": "up", "bird": "running", **more}


STATE = {
    "routers": [
        machine("spine1", bgp={"tor1_v4": "Established"}),
        machine("tor1", bgp={"spine1_v4": "Established", "r1n1_v4": "Established"}),
    ],
    "nodes": [
        machine(
            "r1n1",
            coild="running",
            bgp={"tor1_v4": "Established"},
            problems=[],
            blocks=[{"networks": ["10.64.0.0/27"], "exported": True}],
        )
    ],
    "etcd": [],
    "pods": [{"name": "a", "node": "r1n1", "container_id": "1", "addresses": ["10.64.0.0"]}],
    "links": [
        {"ends": ["spine1", "tor1"], "state": "up"},
        {"ends": ["tor1", "r1n1"], "state": "up"},
    ],
}


def after(change):
    state = copy.deepcopy(STATE)
    change(state)
    return state


def cut(state):
    state["links"][0]["state"] = "cut"


def lose_bgp(state):
    state["routers"][0]["bgp"]["tor1_v4"] = "Connect"


def power_off(state):
    state["nodes"][0] |= {"state": "off", "coild": "stopped", "blocks": [], "bgp": {}}
    state["links"][1]["state"] = "off"
    state["pods"].clear()


def kill_coild(state):
    state["nodes"][0] |= {"coild": "stopped", "blocks": []}


def take_block(state):
    state["nodes"][0]["blocks"].append({"networks": ["10.64.0.32/27"], "exported": True})


def withdraw(state):
    state["nodes"][0]["blocks"][0]["exported"] = False


CASES = [
    (cut, "link spine1 - tor1 loses every packet", "link spine1 - tor1 is up"),
    (lose_bgp, "BGP spine1 - tor1 is down", "BGP spine1 - tor1 is up"),
    (kill_coild, "coild of r1n1 is stopped", "coild of r1n1 runs"),
    (withdraw, "r1n1 withdrew 10.64.0.0/27", "r1n1 announces 10.64.0.0/27"),
]


@pytest.mark.parametrize(("change", "failed", "healed"), CASES)
def test_what_breaks_is_told_once_and_so_is_what_heals(change, failed, healed):
    broken = after(change)
    assert changes(STATE, broken) == [("bad", failed)]
    assert changes(broken, broken) == []
    assert changes(broken, STATE) == [("good", healed)]


def test_of_a_machine_that_is_off_nothing_else_is_told_but_its_pods():
    off = after(power_off)
    assert changes(STATE, off) == [("bad", "r1n1 is off"), ("info", "pod a is gone")]
    assert changes(off, STATE)[0] == ("good", "r1n1 is on")


def test_blocks_that_come_and_go_are_told():
    more = after(take_block)
    assert changes(STATE, more) == [("info", "r1n1 took block 10.64.0.32/27")]
    assert changes(more, STATE) == [("info", "r1n1 gave back block 10.64.0.32/27")]


@pytest.fixture
def ping():
    pod = Pod("a", "r1n1", Host("none"), "1", (ip_address("10.64.0.0"),))
    return Ping(1, pod, pod, pod.addresses[0])


def reply(number, milliseconds="0.1"):
    return f"64 bytes from 10.64.0.0: icmp_seq={number} ttl=59 time={milliseconds} ms"


def test_each_packet_counts_once_whatever_ping_says_of_it(ping):
    lines = [
        "PING 10.64.0.0 (10.64.0.0) 56(84) bytes of data.",
        reply(1),
        "no answer yet for icmp_seq=2",
        "From 172.31.0.1 icmp_seq=2 Destination Net Unreachable",
        "no answer yet for icmp_seq=3",
    ]
    assert [ping.take(line) for line in lines] == [0, 0, 0, 0, 0]
    assert ("".join(ping.recent), ping.number, ping.lost, ping.silent) == ("100", 3, 2, 2)
    assert ping.take(reply(6, "0.25")) == 4
    assert ("".join(ping.recent), ping.lost, ping.silent) == ("100001", 4, 0)
    assert ping.milliseconds == 0.25
    assert ping.take(reply(4)) == 0
    assert ping.number == 6
