"""What is broken comes back; what is lost is rebuilt; nobody gets an address twice."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from coil.lab.wait import until
from daemon.conftest import DUAL
from daemon.full import fill, tiny_state
from daemon.waiting import SOON, sent

pytestmark = pytest.mark.every_store


def test_a_pods_route_that_an_operator_deleted_is_back(machine):
    pod = machine.pods()
    machine.add("a", pod)
    before = machine.routes(116)
    machine.host.run("ip", "route", "flush", "table", "116")
    until(lambda: machine.routes(116) == before, "table 116 is repaired", SOON)


def test_export_routes_rules_and_addresses_come_back(machine):
    pod = machine.pods()
    added = machine.add("a", pod)
    address = added.addresses[0]
    link, exported = machine.links()[0], {machine.networks()[0]: "lo"}
    assert machine.routes(119) == exported
    machine.host.run("ip", "route", "flush", "table", "119")
    until(lambda: machine.routes(119) == exported, "table 119 is repaired", SOON)
    machine.host.run("ip", "rule", "del", "priority", "2000")
    until(
        lambda: any(r["priority"] == 2000 for r in machine.host.ip("rule")),
        "the rule is back",
        SOON,
    )
    machine.host.run("ip", "addr", "flush", "dev", link)
    until(
        lambda: (
            {a["local"] for a in machine.host.ip("addr", "show", link)[0]["addr_info"]}
            == {"169.254.1.1", "fe80::1"}
        ),
        "addresses are back",
        SOON,
    )
    # Behind the repair that they are a part of.
    assert machine.cni("CHECK", "a", pod, prevResult=added.json).code == 0
    machine.host.run("ip", "link", "set", link, "down")
    until(lambda: machine.routes(116).get(address) == link, "the link is up again", SOON)
    machine.host.run("ping", "-c1", "-W5", address)


def test_what_others_put_in_the_place_of_ours_is_put_right(machine):
    pod = machine.pods()
    added = machine.add("a", pod)
    told, (address, _) = added.json, added.addresses
    link, before = machine.links()[0], machine.routes(116)
    machine.host.run("ip", "route", "replace", address, "dev", "lo", "table", "116")
    until(lambda: machine.routes(116) == before, "the pod's route is ours again", SOON)
    network = machine.networks()[0]
    machine.host.run("ip", "route", "replace", network, "dev", "lo", "table", "119")
    until(
        lambda: machine.host.ip("route", "show", "table", "119")[0].get("protocol") == "30",
        "the block's route is ours again",
        SOON,
    )
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        machine.host.run("sysctl", "-qw", f"{name}=0")
        until(lambda name=name: machine.host.run("sysctl", "-n", name).stdout == "1\n", name, SOON)
    # Takes the routes to all its IPv6 addresses along.
    machine.host.run("sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
    until(lambda: machine.cni("CHECK", "a", pod, prevResult=told).code == 0, "IPv6 is on", SOON)
    machine.host.run("ip", "link", "set", link, "name", "other0")
    # A new name alone is no event; a repair of something else may have seen it by now.
    machine.host.run("ip", "link", "set", "other0", "down", check=False)
    until(lambda: machine.links() == [link], "the link has its name again", SOON)
    until(lambda: machine.cni("CHECK", "a", pod, prevResult=told).code == 0, "CHECK", SOON)


def test_what_no_event_tells_is_found_by_the_next_pass(machine):
    machine.add("a", machine.pods())
    machine.stop()
    machine.start("--period=0.5")
    link = machine.links()[0]

    def said():
        (found,) = machine.host.ip("-d", "link", "show", link)
        return found["ifalias"], found["address"], found["mtu"]

    before = said()
    for change in (("alias", "other"), ("address", "02:00:00:00:00:01"), ("mtu", "1300")):
        for _time in range(2):  # again after passes that found nothing to mend
            machine.host.run("ip", "link", "set", link, *change)
            until(lambda: said() == before, f"{change[0]} is mended")


def test_a_host_ends_mtu_is_told_and_mended_and_a_pods_is_the_pods(machine):
    pod = machine.pods()
    added = machine.add("a", pod, mtu=1400)
    told, link = added.json, machine.links()[0]
    pod.run("ip", "link", "set", "eth0", "mtu", "1300")  # as tuning does
    assert machine.cni("CHECK", "a", pod, prevResult=told).code == 0
    # Takes IPv6 with all it has there along.
    machine.host.run("ip", "link", "set", link, "mtu", "1000")
    until(lambda: machine.cni("CHECK", "a", pod, prevResult=told).code == 0, "mended", SOON)
    assert machine.host.ip("link", "show", link)[0]["mtu"] == 1400
    assert pod.ip("link", "show", "eth0")[0]["mtu"] == 1300
    for address in added.addresses:
        machine.host.run("ping", "-c1", "-W5", address)

    def is_told():
        """No event tells; a pass that comes between has mended it."""
        machine.host.run("ip", "link", "set", link, "mtu", "1399")
        reply = machine.cni("CHECK", "a", pod, prevResult=told)
        return reply.code == 100 and "MTU 1399" in reply.json["msg"]

    until(is_told, "CHECK tells")


def test_a_deleted_link_is_made_anew_with_the_same_address_and_mac(machine):
    pod = machine.pods()
    added = machine.add("a", pod)
    mac = pod.ip("link", "show", "eth0")[0]["address"]
    machine.host.run("ip", "link", "del", machine.links()[0])
    until(machine.links, "the link is back", SOON)
    until(lambda: machine.cni("CHECK", "a", pod, prevResult=added.json).code == 0, "CHECK", SOON)
    assert pod.ip("link", "show", "eth0")[0]["address"] == mac


def test_a_host_end_in_another_namespace_is_told_and_mended_once_it_is_back(machine):
    machine.stop()
    machine.start("--period=0.5")
    pod, elsewhere = machine.pods(2)
    added = machine.add("a", pod)
    told, link = added.json, machine.links()[0]
    machine.host.run("ip", "link", "set", link, "netns", elsewhere.name)
    until(lambda: machine.ask("/status")["problems"], "it is told")
    (problem,) = machine.ask("/status")["problems"]
    assert problem["subject"] == "a/eth0"
    assert f"lost its other end {link}" in problem["problem"]
    assert "recreate the pod" in machine.ctl("doctor", "-o", "json", check=False).stdout
    refused = machine.cni("CHECK", "a", pod, prevResult=told)
    assert (refused.code, f"host link {link} is missing" in refused.json["msg"]) == (100, True)
    assert machine.cni("ADD", "a", pod).code == 4
    elsewhere.run("ip", "link", "set", link, "netns", machine.host.name)
    until(lambda: machine.cni("CHECK", "a", pod, prevResult=told).code == 0, "mended")
    until(lambda: not machine.ask("/status")["problems"], "no problem is left")
    machine.host.run("ping", "-c1", "-W5", added.addresses[0])
    machine.host.run("ip", "link", "set", link, "netns", elsewhere.name)
    machine.delete("a", pod)
    assert machine.used() == {}
    until(lambda: not machine.ask("/status")["problems"], "it went with its pod")


def test_routes_that_are_not_ours_are_left_alone(machine):
    pod = machine.pods()
    machine.add("a", pod)
    machine.host.run("ip", "route", "add", "198.51.100.0/24", "dev", "lo", "table", "119")
    machine.host.run("ip", "route", "add", "198.51.100.1", "dev", "lo", "table", "116")
    machine.kill()
    machine.start()
    assert "198.51.100.0/24" in machine.routes(119)
    assert "198.51.100.1" in machine.routes(116)


def test_a_restart_keeps_everything(machine):
    pods = machine.pods(5)
    added = [machine.add(f"c{n}", pod) for n, pod in enumerate(pods)]
    before = machine.used(), machine.routes(116), machine.routes(119)
    for end in (machine.kill, machine.stop):
        end()
        machine.start()
        assert (machine.used(), machine.routes(116), machine.routes(119)) == before
    pods[0].run("ping", "-c1", "-W5", added[4].addresses[0])


@pytest.mark.parametrize("loss", ["deleted", "garbage"])
def test_a_lost_journal_is_rebuilt_from_the_kernel(machine, loss):
    pods = machine.pods(3)
    for n, pod in enumerate(pods[:2]):
        machine.add(f"c{n}", pod)
    before = machine.used()
    told = machine.add("c0", pods[0]).json
    machine.kill()
    for path in (machine.directory / "state").glob("journal.db*"):
        if loss == "deleted":
            path.unlink()
        else:
            path.write_bytes(b"garbage" * 999)
    machine.start()
    assert machine.used() == before
    assert machine.cni("CHECK", "c0", pods[0], prevResult=told).code == 0
    assert machine.cni("CHECK", "c0", pods[1], prevResult=told).code == 100
    third = machine.add("c2", pods[2])
    assert third.addresses[0] not in before
    pods[2].run("ping", "-c1", "-W5", next(iter(before)))
    # What was free may have been in use a moment ago, as far as anybody knows: it cools.
    cooling = [r for r in machine.ask("/addresses") if r["state"] == "cooling"]
    assert len(cooling) == 30
    machine.delete("c0")
    machine.delete("c1")
    assert list(machine.used().values()) == ["c2"]
    kept = list((machine.directory / "state").glob("*.corrupt-*"))
    assert bool(kept) == (loss == "garbage")


def test_a_journal_older_than_the_kernel_gives_no_live_address_away(machine):
    """SQLite passes over a damaged log file: what was written before it counts again."""
    first, second = machine.pods(2)
    machine.kill()
    machine.start()
    machine.kill()
    state = machine.directory / "state"
    old = {path: path.read_bytes() for path in state.glob("journal.db*")}
    machine.start()
    given = machine.add("a", first).addresses
    machine.kill()
    for path in state.glob("journal.db*"):
        path.unlink()
    for path, content in old.items():
        path.write_bytes(content)
    machine.start()
    assert machine.used() == {given[0]: "a"}
    assert machine.add("b", second).addresses != given
    machine.delete("a", first)
    assert list(machine.used().values()) == ["b"]


@pytest.fixture
def cramped(machines):
    """A machine whose state directory is easily full."""
    machine = machines()
    machine.create_pool(DUAL)
    with tiny_state(machine):
        machine.start("--period=0.5")
        yield machine


def test_a_full_disk_stops_new_pods_and_nothing_else(cramped):
    machine = cramped
    first, second = machine.pods(2)
    told = machine.add("a", first).json
    release = fill(machine)
    refused = machine.cni("ADD", "b", second)
    assert refused.code == 5
    assert "space" in refused.json["msg"]
    assert len(machine.links()) == 1
    until(lambda: machine.cni("STATUS", version="1.1.0").code == 50, "STATUS tells")
    machine.host.run("ip", "route", "flush", "table", "116")
    until(lambda: machine.cni("CHECK", "a", first, prevResult=told).code == 0, "repaired")
    machine.kill()
    machine.start("--period=0.5")
    assert list(machine.used().values()) == ["a"]
    release()
    machine.delete("b", second)
    machine.add("b", second)
    machine.delete("a", first)
    until(lambda: machine.cni("STATUS", version="1.1.0").code == 0, "all is well")
    assert list(machine.used().values()) == ["b"]
    assert list((machine.directory / "state").glob("*corrupt*")) == []


@pytest.mark.parametrize("loss", ["deleted", "garbage"])
@pytest.mark.sqlite
def test_a_lost_store_gets_its_pools_and_blocks_back(machine, loss):
    first, second = machine.pods(2)
    machine.add("a", first)
    blocks = [(b["pool"], b["index"]) for b in machine.claims()]
    machine.stop()
    for path in machine.directory.glob("store.db*"):
        if loss == "deleted":
            path.unlink()
        else:
            path.write_bytes(b"garbage" * 999)
    machine.start()
    until(
        lambda: [(b["pool"], b["index"]) for b in machine.claims()][:1] == blocks,
        "the block is back in the store",
    )
    assert machine.listing("pool", "list")[0]["name"] == "default"
    assert machine.routes(119)["10.66.0.0/27"] == "lo"
    assert machine.add("b", second).addresses[0] != "10.66.0.0"
    assert sorted(machine.used().values()) == ["a", "b"]


@pytest.mark.sqlite
def test_a_block_the_store_gave_away_is_fenced_and_its_pods_can_still_go(machine):
    first, second = machine.pods(2)
    told = machine.add("a", first).json
    with contextlib.closing(sqlite3.connect(machine.directory / "store.db")) as store:
        store.execute("UPDATE blocks SET node = 'thief', revision = revision + 100")
        store.commit()
    until(lambda: "10.66.0.0/27" not in machine.routes(119), "the route is withdrawn", SOON)
    assert machine.routes(116)["10.66.0.0"] == machine.links()[0]
    again = machine.cni("ADD", "a", first)
    assert (again.code, "10.66.0.0 is not this node's" in again.json["msg"]) == (102, True)
    assert machine.cni("CHECK", "a", first, prevResult=told).code == 100
    added = machine.add("b", second)
    assert added.addresses[0] == "10.66.0.32"
    machine.delete("a", first)
    assert list(machine.used().values()) == ["b"]
    assert machine.links() != []
    assert "fenced" in machine.log.read_text()


def test_after_a_reboot_nothing_lives_and_old_addresses_cool(machine):
    pods = machine.pods(2)
    before = machine.add("a", pods[0]).addresses[0]
    machine.kill()
    machine.host.run("ip", "link", "del", machine.links()[0])
    with contextlib.closing(sqlite3.connect(machine.directory / "state/journal.db")) as journal:
        journal.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
        journal.commit()
    machine.start()
    assert machine.used() == {}
    assert machine.add("b", pods[1]).addresses[0] != before
    machine.delete("a")  # containerd still knows its old sandboxes


def test_a_journal_of_another_node_is_refused(machine):
    machine.stop()
    done = machine.host.run(
        *("coild", "--node-name=other", f"--store={machine.store}"),
        *(f"--socket={machine.socket}", f"--state-dir={machine.directory}/state"),
        check=False,
        env={"PATH": f"{__import__('sys').prefix}/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    assert done.returncode == 78
    assert "node1" in done.stderr


def test_an_add_whose_plugin_was_killed_does_not_outlive_its_del(machine):
    """coild is stopped so that both requests wait in its socket, in order."""
    pod = machine.pods()
    machine.suspend()
    try:
        adding = machine.spawn("ADD", "a", pod)
        until(lambda: sent(adding.pid), "the plugin has sent its request")
        adding.kill()
        adding.wait()
        adding.stdout.close()
        deleting = machine.spawn("DEL", "a", pod)
        until(lambda: sent(deleting.pid), "the DEL is sent")
    finally:
        machine.resume()
    deleting.communicate(timeout=20)
    assert deleting.returncode == 0
    assert machine.used() == {}
    assert machine.links() == []
    machine.add("b", machine.pods())


@pytest.mark.sqlite
def test_the_store_being_away_stops_nothing_that_is_owned(machine):
    pods = machine.pods(10)
    machine.add("c0", pods[0])
    with contextlib.closing(sqlite3.connect(machine.directory / "store.db")) as store:
        store.execute("BEGIN EXCLUSIVE")
        for n, pod in enumerate(pods[1:], 1):
            machine.add(f"c{n}", pod)
            if n % 2:
                machine.delete(f"c{n}")
        store.execute("ROLLBACK")
    assert len(machine.used()) == 5
