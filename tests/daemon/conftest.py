"""coild on a host of its own, the built plugin, and pods that are bare namespaces."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack, suppress

import pytest

from coil.lab.etcd import etcd_in
from coil.lab.host import host as new_host
from coil.lab.node import PLUGIN, Node

SUBNETS = "10.66.0.0/24,fd00:66::/120"


class Reply:
    """What the plugin did."""

    def __init__(self, done):
        self.status = done.returncode
        self.raw = done.stdout
        self.json = json.loads(done.stdout) if done.stdout.strip() else None

    @property
    def code(self):
        return self.json["code"] if self.status else 0

    @property
    def addresses(self):
        return [entry["address"].split("/")[0] for entry in self.json["ips"]]


class Machine(Node):
    """A node and its pods, driven through the plugin as a runtime would."""

    def __init__(self, host, directory, pods, **more):
        super().__init__(host, directory, **more)
        self.pods = pods

    def netconf(self, version="1.0.0", **more):
        conf = {"cniVersion": version, "name": "coil", "type": "coil", "socket": str(self.socket)}
        return {**conf, **more}

    def spawn(self, command, container="c1", netns=None, ifname="eth0", args="", **conf):
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": "/nowhere",
        }
        if netns is not None:
            variables["CNI_NETNS"] = str(getattr(netns, "path", netns))
        process = subprocess.Popen(
            self.host.inside(PLUGIN),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**variables, "PATH": os.environ["PATH"]},
            text=True,
        )
        with suppress(BrokenPipeError):  # the machine is off: nothing was there to read it
            process.stdin.write(json.dumps(self.netconf(**conf)))
            process.stdin.close()
        process.stdin = None
        return process

    def cni(self, command, container="c1", netns=None, **more):
        return self.reply(self.spawn(command, container, netns, **more))

    def reply(self, process):
        out, _ = process.communicate(timeout=60)
        return Reply(subprocess.CompletedProcess([], process.returncode, out))

    def add(self, container="c1", netns=None, **more):
        reply = self.cni("ADD", container, netns, **more)
        assert reply.status == 0, reply.raw
        return reply

    def delete(self, container="c1", netns=None, **more):
        reply = self.cni("DEL", container, netns, **more)
        assert reply.status == 0, reply.raw

    def listing(self, *words):
        return json.loads(self.ctl(*words, "-o", "json").stdout)

    def used(self):
        return {
            row["addresses"][0]: row["container_id"]
            for row in self.listing("address", "list")
            if row["state"] == "used"
        }

    def networks(self):
        """Of the one block of the pool ``default`` that it owns; which one, the store decides."""
        (block,) = [b for b in self.listing("block", "list") if b["pool"] == "default"]
        return block["networks"]

    def routes(self, table, family="-4"):
        return {
            route["dst"]: route.get("dev", route.get("type"))
            for route in self.host.ip(family, "route", "show", "table", str(table))
        }

    def links(self):
        return [link["ifname"] for link in self.host.ip("link", "show", "type", "veth")]


@pytest.fixture
def pods():
    """A factory of bare pods."""
    with ExitStack() as stack:

        def make(count=1):
            made = [stack.enter_context(new_host("coil-pod")) for _ in range(count)]
            return made if count > 1 else made[0]

        yield make


@pytest.fixture
def machines(tmp_path, pods):
    """A factory of hosts; their coild is not running yet."""
    with ExitStack() as stack:
        made = []

        def make(name="node1", store=""):
            host = stack.enter_context(new_host("coil-host"))
            for address in ("192.0.2.7/32", "2001:db8::7/128"):  # as any node has
                host.run("ip", "addr", "add", address, "dev", "lo")
            directory = tmp_path / f"{name}-{len(made)}"
            directory.mkdir()
            machine = Machine(host, directory, pods, name=name, store=store)
            stack.callback(machine.stop)
            made.append(machine)
            return machine

        yield make
        for machine in made:
            if machine.log.exists():
                print(f"--- log of {machine.name}", machine.log.read_text()[-5000:])


def pytest_generate_tests(metafunc):
    """What a test says of one machine holds whatever its store is."""
    if "machine" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_store")
        sqlite = metafunc.definition.get_closest_marker("sqlite")
        stores = ["sqlite", "etcd"] if every and not sqlite else ["sqlite"]
        metafunc.parametrize("machine", stores, indirect=True)


@pytest.fixture
def machine(request, machines):
    """A host with a dual-stack pool ``default`` whose coild runs."""
    made = machines()
    with ExitStack() as stack:
        if getattr(request, "param", "sqlite") == "etcd":
            made.store = f"etcd://{stack.enter_context(etcd_in(made.host)).endpoint}/t?timeout=2"
        made.ctl("pool", "create", "default", SUBNETS)
        made.start()
        yield made
