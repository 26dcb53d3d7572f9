"""A node whose way out is its routing daemon's, which dies or hangs: a real BIRD."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager, suppress

import pytest

from coil.lab.errors import LabError
from coil.lab.host import end
from coil.lab.suspend import resume, suspend
from coil.lab.wait import until
from coil.speakers.bird import ask_bird
from coil.speakers.errors import SpeakerError
from daemon.conftest import pool_of

TINY = pool_of("10.77.0.0/30", block_bits=2, cool_down=0)
PATIENCE = 2.5
"""Half the shortest lease, seconds."""
STEADY = 5
"""A period, seconds, whose patience (half as long again) no busy machine stands still for."""


class Bird:
    """BIRD of a node; the one way out is a route it makes, in place of an administrator's."""

    def __init__(self, machine, gateway):
        self._machine = machine
        self._gateway = gateway
        self._socket = machine.directory / "bird.ctl"
        self._process = None

    def start(self):
        config = self._machine.directory / "bird.conf"
        config.write_text(
            "router id 192.0.2.7;\nprotocol device {}\n"
            f"protocol static {{ ipv4; route 0.0.0.0/0 via {self._gateway}; }}\n"
            "protocol kernel { persist; ipv4 { export all; }; }\n"
        )
        argv = ["bird", "-f", "-c", config, "-s", self._socket]
        with (self._machine.directory / "bird.log").open("ab") as log:
            self._process = self._machine.host.start(*argv, log=log)
        until(self._answers, "BIRD answers")

    def _answers(self):
        if self._process.poll() is not None:
            raise LabError((self._machine.directory / "bird.log").read_text())
        with suppress(SpeakerError):
            ask_bird(self._socket)
            return True
        return False

    def fail(self, number):
        if number is signal.SIGSTOP:
            suspend(self._process.pid)
        else:
            self._process.kill()
            self._process.wait(10)

    def go_on(self):
        if self._process.poll() is None:
            resume(self._process.pid)
        else:
            self.start()

    def end(self):
        if self._process is not None:
            if self._process.poll() is None:
                resume(self._process.pid)
            end(self._process)


@contextmanager
def bird_of(cluster, machine):
    number = cluster.nodes.index(machine)
    bird = Bird(machine, f"172.31.{number}.2")
    try:
        bird.start()
        machine.host.run("ip", "route", "delete", "default", "proto", "boot")
        until(lambda: "bird" in machine.host.run("ip", "route").stdout, "its route is there")
        yield bird
    finally:
        bird.end()


def exported(machine):
    return set(machine.routes(119))


def away(machine):
    return [row["kind"] for row in machine.ask("/status")["problems"]] == ["store"]


def stays_exported(machine, blocks, seconds):
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        assert exported(machine) == blocks
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_node_that_nobody_hears_any_more_asks_before_it_announces_again(cluster, pods, how):
    lost, other = cluster.node(pool=TINY), cluster.node()
    lost.add("c1", pods())
    (block,) = exported(lost)
    with bird_of(cluster, lost) as bird:
        bird.fail(how)
        cluster.cut(lost)
        until(lambda: not exported(lost), "the node that nobody hears withdraws")
        assert "the routing daemon does not answer" in lost.log.read_text()
        assert lost.blocks()[0]["exported"] is False
        assert "reached nobody for" in lost.cni("ADD", "c2", pods()).json["msg"]
        until(lambda: not other.nodes()["n0"], "the lease has ended")
        other.ctl("node", "release", "n0", "--yes")
        until(lambda: other.cni("ADD", "c1", pods()).status == 0, "the other node has the block")
        assert exported(other) == {block}
        # A coild that is new finds the daemon as silent as before.
        lost.kill()
        lost.start("--period=1")
        assert not exported(lost)
        bird.go_on()
        cluster.heal(lost)
        seen = []
        until(lambda: seen.append(exported(lost)) or not away(lost), "it is back")
        assert not any(seen)
        assert lost.cni("ADD", "c3", pods(), timeout=3).code == 11


def test_what_is_still_its_own_is_announced_again(cluster, pods):
    machine = cluster.node(pool=TINY)
    machine.add("c1", pods())
    before = exported(machine)
    with bird_of(cluster, machine) as bird:
        bird.fail(signal.SIGKILL)
        cluster.cut(machine)
        until(lambda: not exported(machine), "the node that nobody hears withdraws")
        bird.start()
        cluster.heal(machine)
        until(lambda: exported(machine) == before, "its blocks are announced again")
        machine.add("c2", pods())


def test_a_dead_daemon_alone_withdraws_nothing(cluster, pods):
    machine = cluster.node(pool=TINY)
    machine.add("c1", pods())
    before = exported(machine)
    with bird_of(cluster, machine) as bird:
        bird.fail(signal.SIGKILL)
        stays_exported(machine, before, 2 * PATIENCE)


def test_a_daemon_that_restarts_while_the_store_is_away_is_not_lost(cluster, pods):
    machine = cluster.node(pool=TINY, period=STEADY)
    machine.add("c1", pods())
    before = exported(machine)
    with bird_of(cluster, machine) as bird:
        cluster.cut(machine)
        until(lambda: away(machine), "the cut is noticed")
        for _ in range(3):
            bird.fail(signal.SIGKILL)
            bird.start()
            stays_exported(machine, before, STEADY / 2)
        machine.add("c2", pods())


def test_the_socket_of_a_daemon_that_makes_no_routes_here_says_nothing(cluster, pods):
    """Left behind by one that was tried out once."""
    machine = cluster.node(pool=TINY, period=STEADY)
    machine.add("c1", pods())
    before = exported(machine)
    with bird_of(cluster, machine) as bird:
        bird.fail(signal.SIGKILL)
        machine.host.run("ip", "route", "flush", "proto", "bird")
        machine.host.run("ip", "route", "replace", "default", "via", "172.31.0.2")
        cluster.cut(machine)
        until(lambda: away(machine), "the cut is noticed")
        stays_exported(machine, before, 2 * STEADY)
        machine.add("c2", pods())
