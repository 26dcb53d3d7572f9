"""Nodes on one flat network: coild and coil-router, a real etcd, and a bridge as the switch."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from coil.lab.etcd import EtcdMember
from coil.lab.host import end, run
from coil.lab.host import host as new_host
from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from daemon.conftest import Machine, machines, pods

__all__ = ["machines", "pods"]

ETCD = "172.30.0.100"
SWITCH_MAC = "02:00:00:00:00:01"
TABLE = 117


class Router:
    """coil-router of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.log = machine.directory / "coil-router.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it; don't wait."""
        with self.log.open("ab") as log:
            self._process = self.machine.host.start(
                PROGRAMS / "coil-router", f"--node-name={self.machine.name}",
                f"--store={self.machine.store}", *options, log=log,
            )  # fmt: skip

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        return end(self._process) if self._process else 0

    def says(self, *words: str) -> bool:
        """Whether some line of its log has all of these words."""
        return any(all(word in line for word in words) for line in self.log.read_text().split("\n"))

    def routes(self) -> dict[str, str]:
        """Its own ones: network to gateway, both families."""
        return {
            route["dst"]: route["gateway"]
            for family in ("-4", "-6")
            for route in table_of(self.machine, family)
            if route["protocol"] == "31"
        }


def table_of(machine: Machine, family: str) -> list[dict]:
    """All routes of the router's table, none while it was never written to."""
    show = ("ip", "-j", family, "route", "show", "table", str(TABLE))
    done = machine.host.run(*show, check=False)
    return json.loads(done.stdout or "[]") if done.returncode == 0 else []


class Segment:
    """A switch, and the machines that are plugged into it."""

    def __init__(self, make, switch, member):
        self._make = make
        self.switch = switch
        self.member = member
        self.store = f"etcd://{ETCD}:2379/t"
        self.nodes = []

    def node(self, *, pool=None, period="1"):
        """A machine on the segment with coild and coil-router; the first may make the pool."""
        number = len(self.nodes) + 11
        machine = self._make(f"n{number - 10}", self.store)
        self.plug(machine, number)
        machine.router = Router(machine)
        self.nodes.append(machine)
        if pool:
            machine.create_pool(pool)
        machine.start(f"--period={period}")
        machine.router.start(f"--period={period}")
        return machine

    def plug(self, machine, number):
        port = f"port{number}"
        ends = ("eth0", "netns", machine.host.name), (port, "netns", self.switch.name)
        run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]])
        self.switch.run("ip", "link", "set", port, "master", "br0", "up")
        # Until a new link's own address is known to be nobody else's, its host forwards no IPv6.
        machine.host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        machine.host.run("ip", "addr", "add", f"172.30.0.{number}/24", "dev", "eth0")
        machine.host.run("ip", "addr", "add", f"fd00:30::{number}/64", "dev", "eth0", "nodad")
        machine.host.run("ip", "link", "set", "eth0", "up")
        ping = ("ping", "-c1", "-W1", ETCD)
        until(lambda: machine.host.run(*ping, check=False).returncode == 0, "the port carries")

    def stop_routers(self):
        for machine in self.nodes:
            machine.router.stop()
            print(f"--- log of {machine.name}", machine.router.log.read_text()[-3000:])


@pytest.fixture
def segment(machines):
    with ExitStack() as stack:
        switch = stack.enter_context(new_host("coil-switch"))
        # Left alone a bridge takes the lowest MAC of its ports, so a new port may change it, and
        # what a node learnt less than a second ago does not change with it (arp's locktime).
        switch.run("ip", "link", "add", "br0", "address", SWITCH_MAC, "type", "bridge")
        switch.run("ip", "addr", "add", f"{ETCD}/24", "dev", "br0")
        switch.run("ip", "link", "set", "br0", "up")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-", dir="/dev/shm"))
        member = EtcdMember("m0", ETCD, Path(folder), switch)
        stack.callback(member.stop)
        member.start([member])
        member.wait_ready()
        made = Segment(machines, switch, member)
        stack.callback(made.stop_routers)
        yield made
