"""Several nodes with one etcd: every machine is a namespace, cabled to the one etcd runs in."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from coil.lab.etcd import EtcdMember
from coil.lab.host import cable
from coil.lab.host import host as new_host
from daemon.conftest import Machine, machines, pods

__all__ = ["machines", "pods"]

ETCD = "192.0.2.100"


class Cluster:
    """etcd and nodes that reach it, and nothing else, by a cable each."""

    def __init__(self, make, member):
        self._make = make
        self.member = member
        self.store = f"etcd://{ETCD}:2379/t"
        self.nodes = []

    def node(self, name="", *, pool=None, **start):
        """A node whose coild runs; the first one may make the pool, and has a block of it then."""
        made = self.made(name or f"n{len(self.nodes)}")
        if pool:
            made.create_pool(pool)
        options = [f"--{key}={value}" for key, value in {"period": 1, **start}.items()]
        made.start(*options)
        if pool:
            made.wait_block()
        return made

    def made(self, name):
        """A node whose coild does not run yet."""
        number = len(self.nodes)
        made: Machine = self._make(name, self.store)
        self.connect(made, number)
        self.nodes.append(made)
        return made

    def connect(self, machine, number):
        cable(machine.host, self.member.host, f"172.31.{number}.0/30", ifname=f"up{number}")
        self._route(machine, number)

    def _route(self, machine, number):
        machine.host.run("ip", "route", "add", "default", "via", f"172.31.{number}.2")

    def cut(self, machine):
        """Nothing of this node reaches etcd any more, and nothing tells either of them."""
        machine.host.run("ip", "route", "replace", "blackhole", f"{ETCD}/32")

    def heal(self, machine):
        machine.host.run("ip", "route", "delete", "blackhole", f"{ETCD}/32")

    def unplug(self, machine):
        """The node's only cable carries nothing, and with it its routes are gone."""
        machine.host.run("ip", "link", "set", f"up{self.nodes.index(machine)}", "down")

    def blind(self, machine):
        """Every packet of the node's cable is lost, both ways, and both ends stay up."""
        # A gateway that was heard of lately is not asked for.
        for key in ("base_reachable_time_ms=1000", "delay_first_probe_time=1"):
            name = f"net/ipv4/neigh/up{self.nodes.index(machine)}/{key}"
            machine.host.run("sysctl", "-qw", name)
        self._tc(machine, "replace", "blackhole")

    def unblind(self, machine):
        self._tc(machine, "delete")

    def _tc(self, machine, verb, *queue):
        for host in (machine.host, self.member.host):
            host.run("tc", "qdisc", verb, "dev", f"up{self.nodes.index(machine)}", "root", *queue)

    def plug(self, machine):
        number = self.nodes.index(machine)
        machine.host.run("ip", "link", "set", f"up{number}", "up")
        self._route(machine, number)


@pytest.fixture
def cluster(machines):
    with ExitStack() as stack:
        host = stack.enter_context(new_host("coil-etcd"))
        host.run("ip", "addr", "add", f"{ETCD}/32", "dev", "lo")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-", dir="/dev/shm"))
        member = EtcdMember("m0", ETCD, Path(folder), host)
        stack.callback(member.stop)
        member.start([member])
        member.wait_ready()
        yield Cluster(machines, member)
