"""Traffic and churn on every node of a lab while something breaks, and what must hold meanwhile.

Clients add and delete attachments through the plugin on all nodes and remember what they were told;
a sampler reads the export tables; pings run between pods of different racks. Afterwards one world
must explain all of it: no address at two pods, none before it had cooled, no block announced by two
nodes, nothing left behind.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from coil.lab.clos.plan import Kind
from coil.lab.clos.traffic import streams
from coil.lab.host import host as new_host
from coil.lab.wait import until
from daemon.conftest import Machine
from daemon.history import Hold, violations

POOL = "storm"
BLOCK_BITS = 2
COOL_DOWN = 1
_PODS = 3
"""Bare pods on each node."""


class StormNode(Machine):
    """A node of the lab, as a runtime drives it; its pods get addresses of the storm's pool."""

    def __init__(self, lab, machine, pool):
        node = lab.machines.node(machine)
        super().__init__(node.host, node.directory, None, name=node.name, store=node.store)
        self._pool = pool

    def netconf(self, version="1.0.0", **more):
        return {**super().netconf(version), "pool": self._pool, **more}

    def exported(self):
        """The block networks in table 119; none of a node that is off."""
        done = self.host.run("ip", "route", "show", "table", "119", check=False)
        return {line.split()[0] for line in done.stdout.splitlines()}


class Client:
    """One pod's namespace, attached and detached again and again."""

    def __init__(self, node, pod, seed):
        self.node = node
        self._pod = pod
        self._random = random.Random(seed)
        self._name = f"{node.name}-{pod.name[-8:]}"
        self._count = 0
        self.holds = []
        self.refused = []
        self.pause = 0.2

    def run(self, stop):
        while not stop.wait(self._random.uniform(0.5, 1.5) * self.pause):
            self.cycle()

    def cycle(self):
        self._count += 1
        attachment = f"{self._name}-{self._count}"
        asked = time.monotonic()
        added = self.node.cni("ADD", attachment, self._pod)
        given = time.monotonic()
        if added.status == 0:
            self.holds.append(Hold(attachment, added.addresses[0], asked, given, time.monotonic()))
        else:
            self.refused.append(("ADD", attachment, added.json))
        gone = self.node.cni("DEL", attachment, self._pod)
        if gone.status:
            self.refused.append(("DEL", attachment, gone.json))


class Storm:
    """Clients on the nodes of a lab, and a sampler of what they export."""

    def __init__(self, lab, nodes, stack):
        self.lab = lab
        self.nodes = nodes
        self.doubled = []
        self.samples = 0
        self.clients = [
            Client(node, stack.enter_context(new_host("coil-pod")), random.randrange(10**6))
            for node in nodes.values()
            for _ in range(_PODS)
        ]
        self._stop = threading.Event()
        self._threads = []

    def begin(self):
        for target in [self._sample, *(client.run for client in self.clients)]:
            arguments = () if target == self._sample else (self._stop,)
            thread = threading.Thread(target=target, args=arguments)
            thread.start()
            self._threads.append(thread)

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def cycles(self):
        return sum(len(client.holds) for client in self.clients)

    def wait_more(self, count, seconds=30):
        """Until so many more attachments were made, by whichever nodes can."""
        wanted = self.cycles() + count
        until(lambda: self.cycles() >= wanted, f"{count} more pods", seconds)

    def wait_more_on(self, name, count, seconds=30):
        """Until a node has made so many more attachments."""
        clients = [client for client in self.clients if client.node.name == name]
        wanted = sum(len(c.holds) for c in clients) + count
        until(lambda: sum(len(c.holds) for c in clients) >= wanted, f"pods on {name}", seconds)

    def refused(self, *tolerated):
        """What runtimes were told that it cannot be, by codes other than these."""
        refused = [each for client in self.clients for each in client.refused]
        return [each for each in refused if each[2]["code"] not in tolerated]

    def _sample(self):
        """Look at one node, all others, and that one again: who has a block both times had it."""
        names = list(self.nodes)
        while not self._stop.wait(0.1):
            name = random.choice(names)
            before = self.nodes[name].exported()
            others = {n: node.exported() for n, node in self.nodes.items() if n != name}
            after = self.nodes[name].exported()
            self.samples += 1
            for other, theirs in others.items():
                both = before & after & theirs
                if both:
                    self.doubled.append((name, other, sorted(both)))

    def check(self):
        """What must have held all the while."""
        assert self.samples
        wrong = violations([h for c in self.clients for h in c.holds], COOL_DOWN)
        # With their reasons: only files of tests get them from pytest.
        assert not self.doubled, self.doubled
        assert not wrong, self._told(wrong)

    def _told(self, wrong):
        """What went wrong, and everything that is known of the addresses concerned."""
        addresses = {text.split()[0] for text in wrong}
        holds = [h for c in self.clients for h in c.holds if h.address in addresses]
        return "\n".join([*wrong, *map(str, sorted(holds, key=lambda hold: hold.given))])

    def check_settled(self):
        """What must hold when all is well again and nobody asks for anything."""
        for node in self.nodes.values():
            until(lambda node=node: self._is_settled(node), f"{node.name} settles", 40)
        owners = [(b["pool"], b["index"]) for b in self._any().listing("block", "list")]
        assert len(owners) == len(set(owners))

    def _any(self):
        return next(iter(self.nodes.values()))

    def _is_settled(self, node):
        """Store, node and kernel agree, and nothing of the storm is left."""
        blocks = node.listing("block", "list", "--node", node.name)
        wanted = {network for block in blocks for network in block["networks"]}
        pools = {block["pool"] for block in blocks if block["pool"] == POOL}
        names = {row["container_id"] for row in node.listing("address", "list")
                 if row["state"] == "used" and row["pool"] in pools}  # fmt: skip
        exported = node.exported() | set(node.routes(119, "-6"))
        return not names and exported == wanted and not node.listing("node", "status")["problems"]


@contextmanager
def storm(lab, subnet="10.99.0.0/22"):
    """Churn on all nodes of ``lab``, in a pool of its own; what it left is checked by the test."""
    first = lab.machines.node(lab.plan.of_kind(Kind.ETCD)[0])
    first.ctl(
        *("pool", "create", POOL, subnet, "--block-bits", str(BLOCK_BITS)),
        *("--cool-down", f"{COOL_DOWN}s"),
    )
    nodes = {m.name: StormNode(lab, m, POOL) for m in lab.plan.of_kind(Kind.NODE)}
    with ExitStack() as stack:
        stack.callback(_delete_pool, first)
        made = Storm(lab, nodes, stack)
        stack.callback(made.end)
        made.begin()
        made.wait_more(2 * len(made.clients))
        yield made


def _delete_pool(node):
    """Nodes give a cordoned pool back by themselves, those of a dead one are released."""
    node.ctl("pool", "cordon", POOL)
    until(lambda: node.ctl("pool", "delete", POOL, check=False).returncode == 0, "pool goes", 60)


@contextmanager
def pings(one, other):
    """Streams between two pods; the list is filled with what became of them."""
    found = []
    with streams(one, other) as made:
        yield found
        for stream in made:
            stream.wait_more(20)
        found.extend(stream.stop() for stream in made)


def together(work, items):
    """Do ``work`` for all items at once."""
    items = list(items)
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(work, items))
