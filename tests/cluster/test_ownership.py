"""Whose a block is, through outages, pauses and deaths: coild on a real etcd."""

from __future__ import annotations

import fcntl
import json
import re
import socket
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from coil.lab.errors import LabError
from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from daemon.conftest import pool_of
from daemon.full import fill, tiny_state

POOL = pool_of("10.77.0.0/24", block_bits=2, cool_down=0)
KILLER = Path(__file__).parents[1] / "daemon" / "killer.py"
TINY = pool_of("10.77.0.0/30", block_bits=2, cool_down=0)


def owned(machine):
    return {tuple(row["networks"]) for row in machine.claims(machine.name)}


def exported(machine):
    return set(machine.routes(119))


def agrees(machine):
    """Soon, what it announces is what the store gives it: a spare may be fetched just now."""
    owns = "what is announced is what is owned"
    until(lambda: exported(machine) == {net for row in owned(machine) for net in row}, owns)


def problems(machine):
    return [row["kind"] for row in machine.ask("/status")["problems"]]


@contextmanager
def begun_add(machine, container, pod):
    """An ADD of which coild has all but the end: that is what it reads first when it goes on."""
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": container,
        "CNI_NETNS": str(pod.path),
        "CNI_IFNAME": "eth0",
    }
    body = json.dumps(machine.netconf()).encode()
    head = f"POST /cni?{urlencode(variables)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"

    def unread():
        return fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4) != b"\0" * 4

    def finish(meanwhile):
        sock.sendall(body[-1:])
        meanwhile()
        with sock.makefile("rb") as answer:
            return json.loads(answer.read().partition(b"\r\n\r\n")[2])

    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(machine.socket))
        sock.sendall(head.encode() + b"\r\n\r\n" + body[:-1])
        until(lambda: not unread(), "coild has read it")
        yield finish


def test_nodes_share_a_pool_and_each_announces_what_it_owns(cluster, pods):
    one, two = cluster.node(pool=POOL), cluster.node()
    for machine in (one, two):
        machine.add("c1", pods())
        agrees(machine)
    assert exported(one)
    assert not exported(one) & exported(two)


def test_a_node_says_who_it_is(cluster):
    cluster.node(pool=POOL, rack="r1")
    (row,) = cluster.nodes[0].listing("node", "list")
    assert (row["name"], row["rack"], row["alive"]) == ("n0", "r1", True)
    assert row["addresses"] == ["172.31.0.1", "192.0.2.7", "2001:db8::7"]
    (rack,) = cluster.nodes[0].listing("rack", "list")
    assert (rack["rack"], rack["blocks_inside"], rack["blocks_outside"]) == ("r1", 1, 0)


def test_an_outage_stops_nothing_that_a_node_can_do_with_what_it_owns(cluster, pods):
    # Half a lease, 7 s, is how long coild may be away while nobody can be asked.
    machine = cluster.node(pool=POOL, period=5)
    machine.add("c0", pods())
    cluster.member.suspend()
    until(lambda: problems(machine) == ["store"], "the outage is noticed")
    first = machine.add("c1", pods())
    machine.delete("c0")
    machine.kill()
    machine.start("--period=5")
    assert machine.add("c1", first.json["interfaces"][1]["sandbox"]).addresses == first.addresses
    machine.delete("c1")
    assert exported(machine)
    cluster.member.resume()
    until(lambda: problems(machine) == [], "the end of the outage is noticed")
    agrees(machine)


def test_a_claim_of_unknown_outcome_is_settled_and_nothing_is_lost(cluster, pods):
    machine = cluster.node(pool=POOL, period=5)
    free = 4
    cluster.member.suspend()
    netns = pods(free + 1)
    for number in range(free):
        machine.add(f"c{number}", netns[number])
    reply = machine.cni("ADD", "more", netns[free], timeout=3)
    assert reply.code == 11
    cluster.member.resume()
    until(lambda: machine.cni("ADD", "more", netns[free]).status == 0, "etcd is back")
    agrees(machine)
    assert len(machine.used()) == free + 1


def test_a_block_that_was_taken_away_is_withdrawn_at_once(cluster, pods):
    machine = cluster.node(pool=POOL)
    machine.add("c1", pods())
    before = exported(machine)
    refused = machine.ctl("node", "release", "n0", "--yes", check=False)
    assert refused.returncode == 1
    assert "alive" in refused.stderr
    machine.ctl("node", "release", "n0", "--yes", "--force")
    until(lambda: not exported(machine) & before, "the lost block is withdrawn")
    machine.delete("c1")
    again = machine.add("c2", pods())
    agrees(machine)
    assert again.addresses


def test_a_node_that_was_paused_gives_nothing_of_what_it_lost_meanwhile(cluster, pods):
    paused, other = cluster.node(pool=TINY), cluster.node()
    paused.add("c1", pods())
    (block,) = exported(paused)
    paused.suspend()
    until(lambda: not other.nodes()["n0"], "the lease has ended")
    other.ctl("node", "release", "n0", "--yes")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
    assert exported(other) == {block}
    waiting = paused.spawn("ADD", "c2", pods(), timeout=5)
    paused.resume()
    out, _ = waiting.communicate(timeout=30)
    assert '"code": 11' in out
    assert exported(paused) == set()
    assert paused.used().keys() == {"10.77.0.0"}


def test_however_short_a_pause_was_the_store_is_asked_after_it(cluster, pods):
    """By force a block can be taken from a node that nobody took for dead."""
    paused, other = cluster.node(pool=TINY, period=30), cluster.node()
    paused.add("c1", pods())
    with begun_add(paused, "c2", pods()) as finish:
        paused.suspend()
        other.ctl("node", "release", "n0", "--yes", "--force")
        until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
        answer = finish(meanwhile=paused.resume)
    assert answer["code"] == 11
    assert exported(paused) == set()


def test_a_long_pause_that_is_settled_is_forgotten(cluster, pods):
    """Else a short one later, while the store is away, would count as long."""
    machine = cluster.node(pool=POOL, period=5)
    machine.add("c0", pods())

    def stand_still(seconds):
        machine.suspend()
        over = time.monotonic() + seconds
        until(lambda: time.monotonic() > over, "it stood still", seconds + 5)
        machine.resume()

    stand_still(9)
    machine.add("c1", pods())
    cluster.member.suspend()
    stand_still(3)
    machine.add("c2", pods())
    cluster.member.resume()


def test_a_node_that_was_cut_off_loses_what_others_took_as_soon_as_it_is_back(cluster, pods):
    lost, other = cluster.node(pool=TINY), cluster.node()
    lost.add("c1", pods())
    cluster.cut(lost)
    until(lambda: problems(lost) == ["store"], "the cut is noticed")
    lost.add("c2", pods())
    assert exported(lost)
    until(lambda: not other.nodes()["n0"], "the lease has ended")
    other.ctl("node", "release", "n0", "--yes")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
    cluster.heal(lost)
    until(lambda: not exported(lost), "the node that is back withdraws")
    assert lost.cni("ADD", "c3", pods(), timeout=3).code == 11


def test_a_node_that_reaches_nobody_gives_nothing_and_asks_before_it_announces_again(cluster, pods):
    lost, other = cluster.node(pool=TINY), cluster.node()
    lost.add("c1", pods())
    (block,) = exported(lost)
    cluster.unplug(lost)
    until(lambda: not exported(lost), "the node that reaches nobody withdraws")
    until(lambda: not other.nodes()["n0"], "the lease has ended")
    other.ctl("node", "release", "n0", "--yes")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
    assert exported(other) == {block}
    refused = lost.cni("ADD", "c2", pods())
    assert refused.code == 11
    assert "reached nobody for" in refused.json["msg"]
    lost.delete("c1")
    cluster.plug(lost)
    seen = []
    until(lambda: seen.append(exported(lost)) or problems(lost) == [], "it is back")
    assert not any(seen)
    assert lost.cni("ADD", "c3", pods(), timeout=3).code == 11


def test_a_gateway_that_is_lost_without_a_sign_is_no_way_out(cluster, pods):
    """The route by it is an administrator's, and stays."""
    lost, other = cluster.node(pool=TINY), cluster.node()
    lost.add("c1", pods())
    (block,) = exported(lost)
    cluster.blind(lost)
    until(lambda: not exported(lost), "the node that reaches nobody withdraws", 60)
    assert lost.host.ip("route", "show", "default")
    assert "no gateway answers" in lost.log.read_text()
    until(lambda: not other.nodes()["n0"], "the lease has ended")
    other.ctl("node", "release", "n0", "--yes")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
    assert exported(other) == {block}
    refused = lost.cni("ADD", "c2", pods())
    assert (refused.code, "reached nobody for" in refused.json["msg"]) == (11, True)
    # The kernel forgets a neighbour that did not answer; that is no answer.
    seen = []
    lost.host.run("ip", "neighbour", "flush", "all")
    cluster.unblind(lost)
    until(lambda: seen.append(exported(lost)) or problems(lost) == [], "it is back", 60)
    assert not any(seen)


def test_a_node_that_reached_nobody_for_a_while_announces_what_is_still_its_own(cluster, pods):
    machine = cluster.node(pool=POOL)
    machine.add("c1", pods())
    before = exported(machine)
    cluster.unplug(machine)
    until(lambda: not exported(machine), "the node that reaches nobody withdraws")
    assert [block["exported"] for block in machine.blocks()] == [False]
    machine.kill()
    machine.start("--period=1")
    assert not exported(machine)
    cluster.plug(machine)
    until(lambda: exported(machine) == before, "its blocks are announced again")


def hang(cluster, machine):
    machine.suspend()
    cluster.unplug(machine)
    until(lambda: not alive(cluster, machine), "the lease has ended", 20)
    machine.resume()


def be_dead(cluster, machine):
    machine.kill()
    cluster.unplug(machine)
    until(lambda: not alive(cluster, machine), "the lease has ended", 20)
    machine.start("--period=1")


def start_anew(cluster, machine):
    cluster.unplug(machine)
    machine.kill()
    machine.start("--period=1")


def alive(cluster, machine):
    return bool(cluster.member.ctl("get", f"/t/alive/{machine.name}").stdout)


@pytest.mark.parametrize("miss", [hang, be_dead, start_anew])
def test_a_coild_that_did_not_see_the_cable_go_withdraws_before_it_is_heard_again(
    cluster, pods, miss
):
    lost = cluster.node(pool=POOL)
    lost.add("c1", pods())
    before = exported(lost)
    miss(cluster, lost)
    until(lambda: not exported(lost), "the node that reaches nobody withdraws", 20)
    pod = pods()
    until(lambda: lost.cni("ADD", "c2", pod, timeout=1).code == 11, "it gives no address", 20)
    cluster.plug(lost)
    until(lambda: exported(lost) == before, "its blocks are announced again", 30)


def test_a_node_that_is_back_with_a_full_disk_asks_before_it_announces(cluster, pods):
    lost = cluster.made("n0")
    lost.create_pool(POOL)
    with tiny_state(lost):
        lost.start("--period=1")
        lost.add("c1", pods())
        before = exported(lost)
        cluster.unplug(lost)
        until(lambda: not exported(lost), "the node that reaches nobody withdraws")
        release = fill(lost)
        cluster.member.suspend()
        cluster.plug(lost)
        until(lambda: "stood still: asking" in lost.log.read_text(), "it asks")
        assert not exported(lost)
        cluster.member.resume()
        release()
        until(lambda: exported(lost) == before, "its blocks are announced again")


def test_a_node_that_was_dead_for_long_asks_before_it_announces(cluster, pods):
    dead, other = cluster.node(pool=TINY), cluster.node()
    dead.add("c1", pods())
    dead.kill()
    dead.host.run("ip", "route", "flush", "table", "119")
    until(lambda: not other.nodes()["n0"], "the lease has ended")
    other.ctl("node", "release", "n0", "--yes")
    until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
    cluster.cut(dead)
    dead.start("--period=1")
    refused = dead.cni("ADD", "c2", pods(), timeout=6)
    assert refused.code == 11
    assert "stood still" in refused.json["msg"]
    assert not exported(dead)
    dead.delete("c1")
    cluster.heal(dead)
    until(lambda: dead.nodes().get("n0"), "the node is back")
    assert not exported(dead)


def test_a_name_is_held_by_one_coild_of_a_machine(cluster):
    first = cluster.node("same", pool=POOL)
    with pytest.raises(LabError, match="in use by another coild"):
        cluster.node("same")
    assert exported(first)


BOOT_ID, MACHINE_ID = "/proc/sys/kernel/random/boot_id", "/etc/machine-id"


def launch_with(machine, file, text, period=1):
    """Start coild, for which ``file`` has ``text``; all else is of the machine it runs on."""
    other = machine.directory / "other"
    other.write_text(text)
    bind = f'mount --bind {other} {file} && exec "$@"'
    inside = ("unshare", "--mount", "--propagation=slave", "sh", "-c", bind, "sh")
    machine.launch(*inside, PROGRAMS / "coild", f"--period={period}")


def launch_of_another_boot(machine, period=1):
    launch_with(machine, BOOT_ID, "00000000-0000-4000-8000-000000000002\n", period)


def test_a_machine_without_an_id_is_told_what_that_means(cluster):
    with_id, without = cluster.node(pool=POOL), cluster.made("n1")
    launch_with(without, MACHINE_ID, "\n")
    until(without._serves, "it serves")
    warning = "no machine-id: after a reboot this node's name will be refused"
    (said,) = [line for line in without.log.read_text().splitlines() if warning in line]
    assert "mount the host's file" in said
    assert warning not in with_id.log.read_text()


def test_a_clone_of_a_machine_that_lives_is_refused(cluster, pods):
    first, clone = cluster.node("same", pool=POOL), cluster.made("same")
    first.add("c1", pods())
    launch_of_another_boot(clone)
    assert clone.wait_ended() == 1
    assert "give this one an id of its own" in clone.log.read_text()
    assert "172.31.0.1" in clone.log.read_text()
    agrees(first)
    assert problems(first) == []


def test_who_waits_for_another_boot_to_fall_silent_can_be_stopped(cluster):
    cluster.node("same", pool=POOL, period=30)
    clone = cluster.made("same")
    launch_of_another_boot(clone, period=30)
    until(lambda: "another boot of this machine" in clone.log.read_text(), "it waits")
    assert clone.stop() == 0


def test_a_machine_whose_clone_took_the_name_gives_nothing_any_more(cluster, pods):
    first, clone = cluster.node("same", pool=POOL), cluster.made("same")
    first.add("c1", pods())
    first.suspend()
    launch_of_another_boot(clone)
    until(clone._serves, "the first one is silent, as if rebooted")
    clone.wait_block()
    first.resume()
    until(lambda: problems(first) == ["node name"], "it is told")
    (problem,) = first.ask("/status")["problems"]
    assert "another machine with the same /etc/machine-id" in problem["problem"]
    assert "172.31.1.1" in problem["problem"]
    assert not exported(first)
    assert "another machine" in first.cni("ADD", "c2", pods()).json["msg"]
    assert clone.add("c1", pods()).addresses
    agrees(clone)
    assert problems(clone) == []
    first.delete("c1")


def test_a_machine_that_was_rebooted_goes_on_when_its_last_boot_is_silent(cluster, pods):
    machine = cluster.node(pool=POOL, period=2)
    before = exported(machine)
    machine.kill()
    machine.host.run("ip", "route", "flush", "table", "119")
    pod = pods()
    launch_of_another_boot(machine, period=2)
    assert machine.add("c1", pod, timeout=30).addresses
    assert exported(machine) >= before
    assert problems(machine) == []


def test_another_machine_cannot_take_a_name_before_it_is_released(cluster):
    machine = cluster.node(pool=POOL)
    machine.stop()
    key = "/t/nodes/n0"
    text = cluster.member.ctl("get", "--print-value-only", key).stdout
    foreign = re.sub(r'"machine": "[^"]*"', '"machine": "another"', text).strip()
    cluster.member.ctl("put", key, foreign)
    with pytest.raises(LabError, match="that of another machine"):
        machine.start("--period=1")
    assert machine.wait_ended() == 1  # systemd goes on trying: it may be released any moment
    until(lambda: not machine.nodes()["n0"], "the lease has ended")
    machine.ctl("node", "release", "n0", "--yes")
    machine.start("--period=1")
    machine.wait_block()
    agrees(machine)


def test_a_node_nobody_knows_cannot_be_released(cluster):
    machine = cluster.node(pool=POOL)
    refused = machine.ctl("node", "release", "absent", "--yes", "--force", check=False)
    assert refused.returncode == 1
    assert "knows no node absent" in refused.stderr


def test_a_wrong_endpoint_is_a_problem_that_is_told_and_mended_by_a_restart(cluster, pods):
    machine = cluster.node(pool=POOL)
    machine.stop()
    right = machine.store
    machine.store = "etcd://192.0.2.101:2379/t?timeout=0.3"
    machine.start("--period=1")
    (problem,) = machine.ask("/status")["problems"]
    assert "192.0.2.101:2379" in problem["problem"]
    machine.stop()
    machine.store = right
    machine.start("--period=1")
    assert problems(machine) == []
    machine.add("c1", pods())


def test_a_new_node_that_has_not_reached_the_store_denies_no_pool(cluster, pods):
    cluster.member.suspend()
    machine = cluster.node()
    refused = machine.cni("ADD", "c1", pods())
    assert (refused.code, machine.cni("STATUS", version="1.1.0").code) == (11, 50)
    assert "not known yet" in refused.json["msg"]
    cluster.member.resume()
    until(lambda: problems(machine) == [], "the store is reached")
    denied = machine.cni("ADD", "c1", pods())
    assert denied.code == 7
    assert "does not exist" in denied.json["msg"]


def test_a_pool_that_was_told_of_and_could_not_be_remembered_is_not_denied(cluster, pods):
    cluster.node(pool=POOL)
    cluster.member.suspend()
    machine = cluster.made("n1")
    with tiny_state(machine):
        machine.start("--period=1")
        fill(machine)
        cluster.member.resume()
        until(lambda: "journal" in problems(machine), "the full disk is told", 20)
        refused = machine.cni("ADD", "c1", pods())
        assert refused.code == 11
        assert "not known yet" in refused.json["msg"]


def test_a_pool_made_while_coild_was_away_is_not_denied_before_the_store_is_asked(cluster, pods):
    machine = cluster.node(pool=POOL, period=10)
    machine.kill()
    machine.create_pool(pool_of("10.78.0.0/24", name="more"))
    cluster.member.suspend()
    machine.start("--period=10")
    refused = machine.cni("ADD", "c1", pods(), pool="more")
    assert refused.code == 11
    assert "not known yet" in refused.json["msg"]
    assert machine.add("c2", pods()).addresses
    cluster.member.resume()
    until(lambda: machine.cni("ADD", "c1", pods(), pool="more").status == 0, "it is known", 30)


CLAIM = """
import asyncio, sys
from coil.store.open import opened_store

async def claim():
    async with opened_store(sys.argv[1]) as store:
        print(len(await store.claim_blocks(sys.argv[2], "default", int(sys.argv[3]), None)))

asyncio.run(claim())
"""


def test_an_address_that_comes_and_goes_while_a_release_waits_keeps_its_block(cluster, pods):
    """The node has four idle blocks of one address, and asks a store that is slow to answer."""
    cluster.store = f"{cluster.store}?timeout=60"
    machine = cluster.node(pool=pool_of("10.77.0.0/28", block_bits=0, cool_down=3600))
    until(lambda: len(owned(machine)) == 1, "a block is fetched")
    machine.kill()
    machine.host.run(sys.executable, "-c", CLAIM, machine.store, machine.name, "3")
    # etcd stands still once the blocks are known, before one can be given back.
    machine.launch(sys.executable, KILLER, f"claim-exported:1:{cluster.member.pid}")
    until(machine._serves, "coild serves")
    blocks = {(f"{address}/32",) for address in exported(machine)}
    names = [f"c{n}" for n in range(4)]
    for name in names:
        machine.add(name, pods())
    for name in names:
        machine.delete(name)
    cluster.member.resume()
    assert len(blocks) == 4
    until(lambda: owned(machine) != blocks, "the fetcher goes on, and claims the next")
    assert blocks < owned(machine)
