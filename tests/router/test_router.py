"""coil-router between real nodes: pods talk, routes follow blocks, and nothing is ever lost."""

from __future__ import annotations

import re
import subprocess

import pytest

from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from daemon.conftest import pool_of
from router.conftest import ETCD, TABLE, table_of

POOL = pool_of("10.77.0.0/26,fd00:77::/122", block_bits=2, cool_down=0)


def address(reply, family=4):
    return next(a for a in reply.addresses if (":" in a) == (family == 6))


def reaches(pod, target):
    return pod.run("ping", "-c1", "-W5", target, check=False).returncode == 0


def blocks(machine):
    """The networks of all blocks of this node."""
    rows = machine.claims(machine.name)
    return {network for row in rows for network in row["networks"]}


def expected(machine, others):
    """The routes that ``machine`` should have to the blocks of the others."""
    via = {o: (f"172.30.0.1{o.name[1:]}", f"fd00:30::1{o.name[1:]}") for o in others}
    return {
        network: via[other][":" in network]
        for other in others if other is not machine for network in blocks(other)
    }  # fmt: skip


def settled(nodes):
    """All nodes have the routes they should have, and no others."""
    for machine in nodes:
        until(
            lambda m=machine: m.router.routes() == expected(m, nodes),
            f"{machine.name} has the routes it should have",
        )


@pytest.fixture
def pair(segment, pods):
    """Two nodes with a pod each, and their addresses."""
    nodes = [segment.node(pool=POOL), segment.node()]
    made = pods(2)
    replies = [machine.add("c1", pod) for machine, pod in zip(nodes, made, strict=True)]
    settled(nodes)
    return nodes, made, replies


def test_pods_of_all_nodes_reach_each_other_by_both_families(segment, pods):
    nodes = [segment.node(pool=POOL), segment.node(), segment.node()]
    made = pods(3)
    replies = [machine.add("c1", pod) for machine, pod in zip(nodes, made, strict=True)]
    settled(nodes)
    for pod in made:
        for reply in replies:
            for family in (4, 6):
                assert reaches(pod, address(reply, family))
    for machine in nodes:
        assert len(machine.router.routes()) >= 4
        for family in ("-4", "-6"):
            rules = machine.host.ip(family, "rule", "show")
            (rule,) = [rule for rule in rules if rule["priority"] == 2001]
            assert rule["table"] == str(TABLE)
            routes = table_of(machine, family)
            assert {route["protocol"] for route in routes} == {"31"}


def test_a_block_that_moves_takes_its_traffic_along(segment, pods):
    tiny = pool_of("10.77.0.0/29,fd00:77::/125", block_bits=2, cool_down=0)
    here, old = segment.node(pool=tiny), segment.node()
    for machine in (here, old):
        machine.wait_block()
    client, first, second = pods(3)
    here.add("c1", client)
    target = address(old.add("c1", first))
    until(lambda: reaches(client, target), "the pod is reached where it is")
    old.kill()
    old.host.run("ip", "link", "set", "eth0", "down")
    here.ctl("node", "release", old.name, "--yes", "--force")
    until(lambda: not here.router.routes(), "what nobody owns has no route")
    assert not reaches(client, target)
    new = segment.node()
    until(lambda: new.cni("ADD", "c1", second).status == 0, "the block has a new owner")
    held = second.ip("-4", "addr", "show", "dev", "eth0")[0]["addr_info"][0]["local"]
    until(lambda: reaches(client, held), "its pods are reached where they are now")
    there = {"172.30.0.13", "fd00:30::13"}
    until(lambda: set(here.router.routes().values()) == there, "both families' routes lead there")


def test_without_the_store_everything_goes_on(segment, pair):
    nodes, made, replies = pair
    here = nodes[0]
    before = here.router.routes()
    segment.member.suspend()
    until(lambda: here.router.says("problem", '"store"'), "the outage is told")
    gone = next(iter(before))
    here.host.run("ip", "route", "del", gone, "table", str(TABLE))
    until(lambda: here.router.routes() == before, "a lost route is mended from memory")
    here.router.kill()
    here.router.start("--period=1")
    until(lambda: here.router.says("does not answer"), "a start without the store")
    assert here.router.routes() == before
    assert reaches(made[0], address(replies[1]))
    segment.member.resume()
    nodes[1].ctl("pool", "create", "more", "10.78.0.0/28", "--block-bits=2")
    nodes[1].wait_pool("more")
    nodes[1].add("c9", made[1], ifname="eth9", pool="more")
    until(lambda: "10.78.0." in str(here.router.routes()), "new blocks are seen again")


def start_again(router, period=1):
    """Start one that has ended. Returns when it serves."""
    marks = router.log.read_text().count('"serving"')
    router.start(f"--period={period}")
    until(lambda: router.log.read_text().count('"serving"') > marks, "it serves")


def test_what_others_do_to_the_table_is_undone(pair):
    (here, _there), _, _ = pair
    here.router.stop()
    start_again(here.router, period=60)  # so that events have to tell of it
    before = here.router.routes()
    run, table = here.host.run, ("table", str(TABLE))
    run("ip", "route", "add", "192.0.2.0/24", "dev", "lo", *table, "proto", "222")
    run("ip", "route", "add", "198.51.100.0/24", "via", ETCD, *table, "proto", "31")
    for family in ("-4", "-6"):
        gone = next(route["dst"] for route in table_of(here, family) if route["protocol"] == "31")
        run("ip", family, "route", "del", gone, *table)
        run("ip", family, "rule", "del", "priority", "2001")

    def as_before():
        rules = [
            rule for family in ("-4", "-6") for rule in here.host.ip(family, "rule", "show")
            if rule["priority"] == 2001
        ]  # fmt: skip
        return here.router.routes() == before and len(rules) == 2

    until(as_before, "routes and rules are back, and the stray one is gone")
    assert "222" in {route["protocol"] for route in table_of(here, "-4")}
    # One that is bent makes no event that is listened to; the period finds it.
    here.router.stop()
    start_again(here.router)
    bent = next(network for network in before if ":" not in network)
    run("ip", "route", "replace", bent, "via", ETCD, *table, "proto", "31")
    until(lambda: here.router.routes() == before, "a bent route is straight again")


def test_a_link_that_was_down_has_its_routes_again_when_it_is_up(pair):
    (here, _there), made, replies = pair
    before = here.router.routes()
    here.host.run("ip", "link", "set", "eth0", "down")
    until(lambda: here.router.says("not on a link"), "neighbours that cannot be are told")
    here.host.run("ip", "link", "set", "eth0", "up")
    here.host.run("ip", "addr", "replace", "fd00:30::11/64", "dev", "eth0", "nodad")
    until(lambda: here.router.routes() == before, "the routes are back")
    until(lambda: reaches(made[0], address(replies[1])), "pods talk again")


def test_a_node_that_gets_another_address_is_followed(pair):
    (here, there), made, replies = pair
    there.host.run("ip", "addr", "add", "172.30.0.5/24", "dev", "eth0")
    until(lambda: "172.30.0.5" in here.router.routes().values(), "routes lead to it")
    until(lambda: reaches(made[0], address(replies[1])), "pods talk")
    there.host.run("ip", "addr", "del", "172.30.0.5/24", "dev", "eth0")
    until(lambda: "172.30.0.12" in here.router.routes().values(), "routes lead back")
    until(lambda: reaches(made[0], address(replies[1])), "pods talk")


def test_a_released_node_has_no_routes_and_one_without_a_record_is_told(segment, pair):
    (here, there), _, _ = pair
    there.stop()
    segment.member.ctl("del", "/t/nodes/n2")
    until(lambda: here.router.says("node n2", "has no record"), "a node without a record is told")
    until(lambda: not here.router.routes(), "it has no routes")
    here.ctl("node", "release", "n2", "--yes", "--force")
    until(
        lambda: here.router.says("problem gone", "node n2 IPv6"),
        "a node without blocks is no problem",
    )
    there.start("--period=1")
    until(lambda: blocks(there), "the node is back with other blocks")
    settled([here, there])


def test_a_node_behind_a_router_is_told(segment, machines, pods):
    here = segment.node(pool=POOL)
    here.add("c1", pods())
    far = machines("far", segment.store)
    segment.plug(far, 9)
    far.host.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
    far.host.run("ip", "addr", "add", "172.31.9.9/32", "dev", "lo")
    far.host.run("ip", "route", "add", "172.30.0.0/24", "dev", "eth0", "src", "172.31.9.9")
    segment.switch.run("ip", "route", "add", "172.31.9.9/32", "dev", "br0")
    far.start("--period=1")
    for place in ("172.31.9.9", "2001:db8::7"):
        until(lambda at=place: here.router.says("node far", "not on a link", at), "it is told")
    assert not here.router.routes()


def test_kill_and_restart_lose_no_packet(pair):
    (here, _there), made, replies = pair
    before = here.router.routes()
    target = address(replies[1])
    argv = made[0].inside("ping", "-i", "0.01", "-W", "1", "-c", "400", target)
    pinging = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    for how in (here.router.kill, here.router.stop):
        how()
        assert here.router.routes() == before
        start_again(here.router)
        assert here.router.routes() == before
    out, _ = pinging.communicate(timeout=60)
    # One may have been late on a busy machine; a missing route loses dozens.
    assert int(re.search(r"(\d+) received", out)[1]) >= 399, out


def test_it_ends_well_and_its_routes_stay_until_they_are_flushed(pair):
    (here, _), _, _ = pair
    before = here.router.routes()
    assert here.router.stop() == 0
    assert here.router.routes() == before
    done = here.host.run(PROGRAMS / "coil-router", "--node-name=n1", "--flush")
    assert f"{len(before)} routes removed" in done.stdout
    assert here.router.routes() == {}
    assert not [r for r in here.host.ip("rule", "show") if r["priority"] == 2001]
    assert here.host.run(PROGRAMS / "coil-router", "--flush").stdout.startswith("0 routes")


def test_a_store_of_another_format_is_not_followed(segment, pair):
    (here, _there), _, _ = pair
    before = here.router.routes()
    here.router.stop()
    segment.member.ctl("put", "/t/identity", '{"format": 99, "identity": "x"}')
    segment.member.ctl("del", "--prefix", "/t/blocks/")
    here.router.start("--period=1")
    until(lambda: here.router.says("problem", "format 99"), "it is told")
    until(lambda: here.router.says("serving"), "it runs on")
    assert here.router.routes() == before


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ([], 78, "no store is named"),
        (["--store=etcd://a:b:c"], 78, "HOST:PORT"),
        (["--store=sqlite:///x", "--node-name=No Name"], 78, "node name"),
        (["--store=sqlite:///x", "--router-table=254"], 78, "system"),
        (["--store=sqlite:///x", "--period=0"], 78, "period"),
        (["--router-protocol=1000"], 2, "router-protocol"),
        (["--period=nan"], 78, "period must be a number"),
        (["--no-such-option"], 2, "no-such-option"),
        (["--config=/nowhere.toml"], 2, "/nowhere.toml"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options, status, says):
    argv = [str(PROGRAMS / "coil-router"), *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_settings_in_force_are_printed_without_the_password(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('router-table = 300\nstore = "etcd://coil:secret@a/x"\n')
    argv = [str(PROGRAMS / "coil-router"), f"--config={config}", "--print-config"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env={"COIL_ROUTER_PROTOCOL": "77"}
    )
    assert '"router-table": 300' in done.stdout
    assert '"router-protocol": 77' in done.stdout
    assert "secret" not in done.stdout
