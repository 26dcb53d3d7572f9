"""What is wrong in the store, as programs meet it: a sentence, a status, and nothing half done."""

from __future__ import annotations

import pytest

from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from daemon.conftest import pool_of

POOL = pool_of("10.77.0.0/24", block_bits=2, cool_down=0)
PREFIX = "/t/"


def put(cluster, key, value):
    cluster.member.ctl("put", PREFIX + key, value)


def keys(cluster):
    listed = cluster.member.ctl("get", "--prefix", PREFIX, "--keys-only").stdout
    return set(listed.split())


def exported(machine):
    return set(machine.routes(119))


def problems(machine):
    return [row["problem"] for row in machine.ask("/status")["problems"]]


def test_bad_keys_stop_no_node_from_what_does_not_need_them(cluster, pods):
    machine = cluster.node(pool=POOL, rack="r1")
    machine.ctl("pool", "create", "other", "10.78.0.0/28", "--block-bits=2")
    machine.add("c1", pods())
    before = exported(machine)
    (mine,) = [key for key in keys(cluster) if key.startswith(f"{PREFIX}blocks/")]
    (range_key,) = [key for key in keys(cluster) if key.startswith(f"{PREFIX}ranges/")]
    neighbour = int(range_key[-19:]) + 1
    for key, value in (
        ("pools/default", "?"),
        (mine.removeprefix(PREFIX), "?"),
        (f"blocks/default/{neighbour:019}", "?"),
        ("nodes/n0", "?"),
        ("nodes/other", "?"),
        ("what/else", "?"),
    ):
        put(cluster, key, value)
    # Another pool works, what is owned goes on, also through a restart.
    machine.add("c2", pods(), pool="other")
    machine.add("c3", pods())
    machine.stop()
    machine.start("--period=1", "--rack=r1")
    assert exported(machine) >= before
    assert machine.add("c4", pods()).addresses[0].startswith("10.77.0.")
    machine.delete("c1")
    log = machine.log.read_text()
    for name in ("pools/default", mine, "nodes/n0"):
        assert any(name in line and "etcdctl del" in line for line in log.split("\n")), name
    # Operators see the rest, with the bad one named.
    done = machine.ctl("pool", "list")
    assert "other" in done.stdout
    assert "pools/default" in done.stderr
    refused = machine.ctl("pool", "show", "default", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "pools/default" in refused.stderr
    assert "etcdctl del" in refused.stderr
    created = machine.ctl("pool", "create", "third", "10.79.0.0/24", check=False)
    assert created.returncode == 1
    assert f"{PREFIX}pools/third" not in keys(cluster)


def test_a_store_of_another_format_changes_nothing_on_a_node(cluster, pods):
    machine = cluster.node(pool=POOL, period=5)
    machine.add("c1", pods())
    before = exported(machine)
    machine.stop()
    put(cluster, "identity", '{"format": 99, "identity": "x"}')
    machine.start("--period=5")
    until(lambda: any("format 99" in problem for problem in problems(machine)), "it is told")
    assert exported(machine) == before
    machine.add("c2", pods())


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--rack=no/rack", "rack name 'no/rack'"),
        ("--rack-file=/nowhere", "/nowhere"),
        ("--store=etcd://a,b:x/p", "b:x"),
        ("--store=etcd://user@a", "USER:PASSWORD"),
        ("--store=etcd://a/p?ca=/nowhere.pem", "/nowhere.pem"),
        ("--store=etcd://a/p?color=red", "color"),
        ("--store=redis://a", "redis"),
        ("--node-name=a b", "node name"),
    ],
)
def test_what_no_restart_can_help_ends_with_78(machines, option, says):
    machine = machines()
    done = machine.host.run(PROGRAMS / "coild", "--state-dir=/nowhere", option, check=False)
    assert done.returncode == 78
    assert done.stderr.startswith("coild: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        ("etcd://127.0.0.1:1/p?timeout=0.3", 1, "nothing listens there"),
        ("etcd://no-such-host.invalid/p?timeout=0.3", 1, "cannot be resolved"),
        ("etcd://a,b:x/p", 2, "b:x"),
        ("etcd://a/p?ca=/nowhere.pem", 2, "/nowhere.pem"),
    ],
)
def test_operators_are_told_in_one_sentence(machines, url, status, says):
    machine = machines(store=url)
    for words in (("node", "list"), ("pool", "create", "default", "10.0.0.0/24")):
        done = machine.ctl(*words, check=False)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith("coilctl: ")
        assert done.stderr.count("\n") == 1
        assert says in done.stderr
