"""Pools and blocks as a node lives with them."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from coil.lab.wait import until
from daemon.conftest import pool_of

pytestmark = pytest.mark.every_store


def fresh(machines, subnet, **pool):
    machine = machines()
    machine.create_pool(pool_of(subnet, **pool))
    machine.start()
    return machine


def test_the_pool_is_that_of_the_netconf_else_of_the_namespace_else_default(machine):
    machine.create_pool(pool_of("10.67.0.0/27", name="team"))
    machine.create_pool(pool_of("10.68.0.0/27", name="special"))
    until(lambda: "special" in str(machine.ask("/status")["pools"]), "pools are known")
    team = "K8S_POD_NAMESPACE=team;K8S_POD_NAME=p"
    a, b, c = machine.pods(3)
    assert machine.add("a", a, args=team).addresses == ["10.67.0.0"]
    assert machine.add("b", b, args=team, pool="special").addresses == ["10.68.0.0"]
    other = "K8S_POD_NAMESPACE=elsewhere;K8S_POD_NAME=p"
    assert machine.add("c", c, args=other).addresses[0] == machine.networks()[0].split("/")[0]
    missing = machine.cni("ADD", "d", machine.pods(), pool="nowhere")
    assert missing.code == 7
    assert "pool create nowhere" in missing.json["msg"]


def test_a_full_pool_is_said_by_name_with_what_to_do_and_more_subnets_help_at_once(machines):
    machine = fresh(machines, "10.66.0.0/31", block_bits=1)
    a, b, c = machine.pods(3)
    machine.add("a", a)
    machine.add("b", b)
    full = machine.cni("ADD", "c", c)
    assert full.code == 11
    assert "pool default is full" in full.json["msg"]
    assert "add-subnet default" in full.json["msg"]
    machine.delete("b", b)
    assert "1 cooling" in machine.cni("ADD", "c", c).json["msg"]
    assert len(c.ip("link")) == 1
    machine.ctl("pool", "add-subnet", "default", "10.66.1.0/31")
    until(lambda: machine.cni("ADD", "c", c).status == 0, "the new subnet is used")


def test_a_cooling_address_is_not_given_and_does_not_count_as_free(machines):
    machine = fresh(machines, "10.66.0.0/31", block_bits=1, cool_down=6)
    pods = machine.pods(2)
    machine.add("a", pods[0])
    machine.add("b", pods[1])
    freed = time.monotonic()
    machine.delete("a")
    early = machine.cni("ADD", "c", pods[0])
    assert early.code == 11 or time.monotonic() - freed >= 6
    machine.kill()
    machine.start()
    reply = until(
        lambda: (r := machine.cni("ADD", "c", pods[0])).status == 0 and r, "it has cooled"
    )
    assert time.monotonic() - freed >= 6
    assert reply.addresses == ["10.66.0.0"]


def test_never_used_comes_first_then_what_is_free_for_longest(machines):
    machine = fresh(machines, "10.66.0.0/30", block_bits=2, cool_down=0)
    pod = machine.pods()

    def once(container):
        address = machine.add(container, pod).addresses[0]
        machine.delete(container, pod)
        return address[-1]

    order = [once(f"c{n}") for n in range(6)]
    machine.kill()
    machine.start()
    order += [once(f"d{n}") for n in range(4)]
    assert order == ["0", "1", "2", "3", "0", "1", "2", "3", "0", "1"]


def test_a_block_is_fetched_before_the_last_address_is_gone(machines):
    machine = fresh(machines, "10.66.0.0/28", block_bits=2)
    pods = machine.pods(3)
    for n, pod in enumerate(pods):
        machine.add(f"c{n}", pod)
    until(lambda: len(machine.claims()) == 2, "the spare block is there")
    until(lambda: len(machine.routes(119)) == 2, "it is announced")


def burst(machine, size):
    """Pods that come at once."""
    pods = machine.pods(size)
    started = [machine.spawn("ADD", f"c{n}", pod) for n, pod in enumerate(pods)]
    assert [machine.reply(process).status for process in started] == [0] * size


def owned(machine):
    return len(machine.claims(machine.name))


def test_a_burst_claims_for_a_full_node_and_what_stays_away_goes_back(machines):
    machine = fresh(machines, "10.64.0.0/12")
    until(lambda: owned(machine) == 1, "the first block is there")
    burst(machine, 17)
    until(lambda: owned(machine) == 4, "blocks for 110 pods and half a block are there")
    until(lambda: owned(machine) == 2, "what is not used is given back", 20)
    assert len(machine.routes(119)) == 2


def test_a_burst_takes_what_a_nearly_full_pool_has_and_others_get_theirs(machines):
    machine = fresh(machines, "10.64.0.0/17")
    other = machines("node2", store=machine.store)
    other.start()
    until(lambda: owned(machine) == owned(other) == 1, "the first blocks are there")
    machine.in_store(lambda store: fill(store, "default", 1024 - 4))
    burst(machine, 17)
    until(lambda: owned(machine) == 3, "it has the last two blocks")
    burst(other, 17)
    until(lambda: owned(machine) == owned(other) == 2, "each has what it needs", 30)


async def fill(store, pool, count):
    """Let somebody else claim so many blocks."""
    while count:
        count -= len(await store.claim_blocks("filler", pool, min(count, 16)))


def test_blocks_of_one_address_work(machines):
    machine = fresh(machines, "10.66.0.0/28", block_bits=0)
    pods = machine.pods(5)
    replies = [machine.add(f"c{n}", pod) for n, pod in enumerate(pods)]
    assert len({r.addresses[0] for r in replies}) == 5
    pods[0].run("ping", "-c1", "-W5", replies[4].addresses[0])


def test_idle_blocks_are_given_back_but_one(machines):
    machine = fresh(machines, "10.66.0.0/28", block_bits=1, cool_down=0)
    pods = machine.pods(6)
    for n, pod in enumerate(pods):
        machine.add(f"c{n}", pod)
    assert len(machine.claims()) >= 3
    for n in range(6):
        machine.delete(f"c{n}")
    until(lambda: len(machine.claims()) == 1, "blocks are given back")
    assert len(machine.routes(119)) == 1
    assert len(machine.routes(116)) == 1


def test_a_cordoned_pool_gives_nothing_drains_and_can_be_deleted(machines):
    machine = fresh(machines, "10.66.0.0/28", block_bits=1, cool_down=0)
    pod, other = machine.pods(2)
    machine.add("a", pod)
    machine.ctl("pool", "cordon", "default")
    until(lambda: machine.ask("/status")["pools"][0]["cordoned"], "the cordon is seen")
    refused = machine.cni("ADD", "b", other)
    assert refused.code == 11
    assert "uncordon" in refused.json["msg"]
    in_use = machine.ctl("pool", "delete", "default", check=False)
    assert in_use.returncode == 1
    assert "node1" in in_use.stderr
    pod.run("ping", "-c1", "-W5", "169.254.1.1")
    machine.delete("a")
    until(lambda: machine.claims() == [], "all blocks are given back")
    machine.ctl("pool", "delete", "default")
    assert machine.routes(119) == {}


def test_several_nodes_share_a_store_and_no_block(machines):
    first = fresh(machines, "10.66.0.0/26", block_bits=2)
    others = [machines(f"node{n}", store=first.store) for n in (2, 3)]
    for machine in others:
        machine.start()
    for machine in (first, *others):
        for n, pod in enumerate(machine.pods(4)):
            machine.add(f"c{n}", pod)
    owners = [(b["index"], b["node"]) for b in first.claims()]
    assert len({index for index, _ in owners}) == len(owners)
    assert {node for _, node in owners} == {"node1", "node2", "node3"}
    held = [set(machine.used()) for machine in (first, *others)]
    assert sum(map(len, held)) == len(set().union(*held)) == 12


@pytest.mark.parametrize("kind", ["address", "spelling", "container", "pod"])
def test_explain_finds_an_attachment_by_what_people_know(machine, kind):
    pod = machine.pods()
    added = machine.add("abcdef", pod, args="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p")
    ipv6 = ip_address(added.addresses[1])
    subject = {
        "address": added.addresses[1],
        "spelling": ipv6.exploded.upper(),
        "container": "abc",
        "pod": "ns/p",
    }[kind]
    found = machine.listing("explain", subject)
    assert found["other_interfaces"] == []
    assert found["container_id"] == "abcdef"
    assert found["faults"] == []
    assert found["block"]["networks"] == machine.networks()


def test_explain_tells_all_interfaces_of_a_container_and_one_of_an_address(machine):
    pod = machine.pods()
    added = {ifname: machine.add("web", pod, ifname=ifname) for ifname in ("net1", "eth0")}
    machine.add("web2", machine.pods())  # an exact id wins
    found = machine.listing("explain", "web")
    each = [found, *found["other_interfaces"]]
    assert [(row["container_id"], row["ifname"]) for row in each] == [
        ("web", "eth0"),
        ("web", "net1"),
    ]
    for row in each:
        assert row["addresses"] == added[row["ifname"]].addresses
        assert (row["faults"], row["block"]["networks"]) == ([], machine.networks())
        assert "routing" in row
    table = machine.ctl("explain", "web").stdout
    assert all(address in table for reply in added.values() for address in reply.addresses)
    one = machine.listing("explain", added["net1"].addresses[0])
    assert (one["ifname"], one["other_interfaces"]) == ("net1", [])
    refused = machine.ctl("explain", "we", check=False)
    assert (refused.returncode, "fits 2 containers" in refused.stderr) == (2, True)


def test_an_address_that_nobody_holds_is_explained_and_not_cut_off(machine):
    address = machine.add("a", machine.pods()).addresses[0]
    assert machine.ctl("explain", address).returncode == 0
    machine.delete("a")
    free = str(ip_address(address) + 1)
    for unheld, state, says in (
        (address, "cooling", "it is cooling, and free in"),
        (free, "free", "it is free already"),
    ):
        found = machine.listing("explain", unheld)
        assert (found["state"], found["block"]["networks"]) == (state, machine.networks())
        assert f"it is {state}, in block " in " ".join(
            machine.ctl("explain", unheld).stdout.split()
        )
        refused = machine.ctl("address", "free", unheld, check=False)  # not asked: nothing to lose
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{unheld} is held by nobody" in refused.stderr
        assert says in refused.stderr
    for words in (("explain", "198.51.100.1"), ("address", "free", "198.51.100.1")):
        refused = machine.ctl(*words, check=False)
        assert refused.returncode == 1
        assert "of this node" in refused.stderr


def test_an_operator_can_cut_an_address_off(machine):
    pod = machine.pods()
    address = machine.add("a", pod).addresses[0]
    freed = machine.listing("address", "free", address, "--yes")
    assert (freed["addresses"][0], freed["state"]) == (address, "cooling")
    assert machine.used() == {}
    assert machine.listing("address", "info", address)["state"] == "cooling"
    missing = machine.ctl("address", "free", address, "--yes", check=False)
    assert missing.returncode == 1
