"""coild on a host of its own, the built plugin, and pods that are bare namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from coil.domain.attachment import Netns
from coil.domain.names import PoolName
from coil.domain.pool import DEFAULT_BLOCK_SIZE_LOG2, DEFAULT_COOL_DOWN, Pool, parse_subnet
from coil.lab.etcd import etcd_in
from coil.lab.host import host as new_host
from coil.lab.node import PLUGIN, Node
from coil.lab.wait import until
from coil.nodenet.netns import NetnsHandle
from coil.store.errors import StoreUnavailable
from coil.store.open import opened_store


def pool_of(
    *subnets,
    name="default",
    block_bits=DEFAULT_BLOCK_SIZE_LOG2,
    cool_down=DEFAULT_COOL_DOWN,
):
    """A pool as ``coilctl pool create`` makes it; ``cool_down`` in seconds."""
    return Pool(PoolName(name), tuple(map(parse_subnet, subnets)), block_bits, cool_down)


DUAL = pool_of("10.66.0.0/24,fd00:66::/120")


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


def inside(host, work):
    """What the coroutine ``work`` returns, run by a thread in the host's namespace."""

    def enter():
        with NetnsHandle(Netns(str(host.path))) as handle, handle.entered():
            return asyncio.run(work)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


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
            for row in self.ask("/addresses")
            if row["state"] == "used"
        }

    def blocks(self):
        """Those it takes for its own."""
        return self.ask("/blocks")

    def wait_block(self):
        """Until it announces a block."""
        until(lambda: any(b["exported"] for b in self.blocks()), "it announces a block")

    def wait_pool(self, name):
        """Until it knows a pool that was made while it ran."""
        until(
            lambda: name in {pool["name"] for pool in self.ask("/status")["pools"]},
            f"{self.name} knows pool {name}",
        )

    def networks(self):
        """Of the one block of the pool ``default`` that it owns; which one, the store decides."""
        (block,) = [b for b in self.blocks() if b["pool"] == "default"]
        return block["networks"]

    def claims(self, node=""):
        """The blocks that ``node``, else anybody, owns by the store's word."""

        async def read(store):
            return [
                {
                    "pool": pool.name,
                    "index": claim.id.index,
                    "networks": [str(network) for network in pool.block(claim.id.index).networks],
                    "node": claim.node,
                }
                for pool in await store.list_pools()
                for claim in await store.list_pool_blocks(pool.name)
                if node in ("", claim.node)
            ]

        return self.told(read)

    def nodes(self):
        """Whether each node with a record lives, by the store's word."""

        async def read(store):
            return {status.record.name: status.alive for status in await store.list_nodes()}

        return self.told(read)

    def told(self, read):
        """As ``in_store``, of what only reads, for as long as a busy store takes to answer."""

        def ask():
            with suppress(StoreUnavailable):
                return [self.in_store(read)]

        (found,) = until(ask, "the store answers")
        return found

    def create_pool(self, pool):
        self.in_store(lambda store: store.create_pool(pool), make=True)

    def in_store(self, work, *, make=False):
        """Do ``work`` with the store as it is seen from this machine's network."""

        async def ask():
            async with opened_store(self.store, make=make) as store:
                return await work(store)

        return inside(self.host, ask())

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
    """A host with a dual-stack pool ``default`` whose coild runs and has a block."""
    made = machines()
    with ExitStack() as stack:
        if getattr(request, "param", "sqlite") == "etcd":
            made.store = f"etcd://{stack.enter_context(etcd_in(made.host)).endpoint}/t?timeout=2"
        made.create_pool(DUAL)
        made.start()
        made.wait_block()
        yield made
