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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from coil.lab.clos.plan import Kind
from coil.lab.clos.traffic import streams
from coil.lab.errors import LabError
from coil.lab.host import host as new_host
from coil.lab.wait import until
from coil.store.errors import StoreUnavailable
from daemon.conftest import Machine
from daemon.history import Hold, violations

POOL = "storm"
BLOCK_BITS = 2
COOL_DOWN = 1
_PODS = 3
"""Bare pods on each node."""
OFF = None
"""In place of a code: the plugin was not there to answer, its node was off."""


class StormNode(Machine):
    """A node of the lab, as a runtime drives it; its pods get addresses of the storm's pool."""

    def __init__(self, lab, machine, pool):
        node = lab.machines.node(machine)
        super().__init__(node.host, node.directory, None, name=node.name, store=node.store)
        self._pool = pool
        self._cables = {near.ifname for near, _far in lab.plan.links_of(machine)}

    def in_store(self, work, *, make=False):
        """As any node; asked again where nobody answered, as it is while etcd elects."""

        def ask():
            with suppress(StoreUnavailable):
                return [super(StormNode, self).in_store(work, make=make)]
            return []

        (answer,) = until(ask, "the store answers", 60)
        return answer

    def netconf(self, version="1.0.0", **more):
        return {**super().netconf(version), "pool": self._pool, **more}

    def is_settled(self, owned):
        """Store, node and kernel agree, and nothing of the storm is left.

        ``owned``: the networks that the store gives this node.
        """
        try:
            status, rows = self.ask("/status", seconds=5), self.ask("/addresses", seconds=5)
        except LabError:
            return False
        if status["problems"]:
            return False
        used = [row for row in rows if row["state"] == "used"]
        exported = self.exported() | self.exported("-6")
        if exported != owned or any(row["pool"] == self._pool for row in used):
            return False
        routes = {dst for dst, dev in self.routes(116).items() if dev != "unreachable"}
        # One end of a cable is called after the machine at the other; a pod's link is not.
        links = [name for name in self.links() if name not in self._cables]
        return routes == {row["addresses"][0] for row in used} and len(links) == len(used)

    def exported(self, family="-4"):
        """The block networks in table 119; none of a node that is off, or has no such table."""
        done = self.host.run("ip", family, "route", "show", "table", "119", check=False)
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
        self.pause = 0.1
        """Seconds between two attachments, and for each of them; about."""

    def run(self, stop):
        while not self._wait(stop):
            self.cycle(stop)

    def cycle(self, stop):
        self._count += 1
        attachment = f"{self._name}-{self._count}"
        asked = time.monotonic()
        added = self.node.cni("ADD", attachment, self._pod)
        given = time.monotonic()
        if added.status == 0:
            self._wait(stop)
            self.holds.append(Hold(attachment, added.addresses[0], asked, given, time.monotonic()))
        else:
            self._refuse("ADD", attachment, added)
        gone = self.node.cni("DEL", attachment, self._pod)
        if gone.status:
            self._refuse("DEL", attachment, gone)

    def _wait(self, stop):
        return stop.wait(self._random.uniform(0.5, 1.5) * self.pause)

    def _refuse(self, verb, attachment, reply):
        answer = reply.json or {"code": OFF}
        if not reply.json:
            # A pod dies with its node. This one's namespace stays; the kernel takes its time.
            until(lambda: len(self._pod.ip("link")) == 1, "nothing is left of the pod", 60)
        self.refused.append((verb, attachment, answer, time.monotonic()))


class Storm:
    """Clients on the nodes of a lab, and a sampler of what they export."""

    def __init__(self, lab, nodes, stack):
        self.lab = lab
        self.nodes = nodes
        self.doubled = []
        self.samples = 0
        self.held = []
        """What pods held beside those of the clients."""
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
        wrong = violations(self._holds(), COOL_DOWN)
        # With their reasons: only files of tests get them from pytest.
        assert not self.doubled, self.doubled
        assert not wrong, self._told(wrong)

    def _told(self, wrong):
        """What went wrong, and everything that is known of the addresses concerned."""
        addresses = {text.split()[0] for text in wrong}
        holds = [hold for hold in self._holds() if hold.address in addresses]
        return "\n".join([*wrong, *map(str, sorted(holds, key=lambda hold: hold.given))])

    def _holds(self):
        return [*self.held, *(hold for client in self.clients for hold in client.holds)]

    def check_settled(self):
        """What must hold when all is well again and nobody asks for anything."""
        until(lambda: not self._unsettled(), lambda: f"{self._unsettled()} settle", 60, pause=0.5)

    def _unsettled(self):
        """The nodes of which store, coild and kernel disagree."""
        owned = {name: set() for name in self.nodes}
        for row in next(iter(self.nodes.values())).claims():
            owned[row["node"]].update(row["networks"])
        return [name for name, node in self.nodes.items() if not node.is_settled(owned[name])]


@contextmanager
def storm(lab, subnet="10.99.0.0/22"):
    """Churn on all nodes of ``lab``, in a pool of its own; what it left is checked by the test."""
    first = lab.machines.node(lab.plan.of_kind(Kind.ETCD)[0])
    nodes = {m.name: StormNode(lab, m, POOL) for m in lab.plan.of_kind(Kind.NODE)}
    until(lambda: create_pool(first, subnet), "the storm has its pool")
    with ExitStack() as stack:
        stack.callback(delete_pool, first, POOL)
        for node in nodes.values():
            node.wait_pool(POOL)
        made = Storm(lab, nodes, stack)
        stack.callback(made.end)
        made.begin()
        made.wait_more(2 * len(made.clients))
        yield made


def create_pool(node, subnet):
    """Whether it is there by now; one that was not confirmed may be there the second time."""
    done = node.ctl(
        *("pool", "create", POOL, subnet, "--block-bits", str(BLOCK_BITS)),
        *("--cool-down", f"{COOL_DOWN}s"),
        check=False,
    )
    return done.returncode == 0 or "exists" in done.stderr


def delete_pool(node, name):
    """Nodes give a cordoned pool back by themselves, those of a dead one are released."""
    for verb in ("cordon", "delete"):
        done = partial(node.ctl, "pool", verb, name, check=False)
        until(lambda done=done: done().returncode == 0, f"{verb} {name}", 60)


@contextmanager
def pods_that_stay(churn, node):
    """Start pods on a node that nobody ends, one each time the function made here is called."""
    with ExitStack() as stack:

        def start():
            pod = stack.enter_context(new_host("coil-pod"))
            attachment = f"stays-{pod.name}"
            asked = time.monotonic()
            added = node.cni("ADD", attachment, pod, timeout=5)
            given = time.monotonic()
            stack.callback(node.delete, attachment, pod)
            if added.status == 0:
                hold = Hold(attachment, added.addresses[0], asked, given)
                stack.callback(lambda: churn.held.append(replace(hold, returned=time.monotonic())))
            return added.status == 0

        yield start


class Pings:
    """Streams of echo requests between two pods, and what became of them when they are over."""

    def __init__(self, made):
        self._made = made
        self.found = []

    def wait_more(self):
        """Until each of them is answered again, for a while."""
        for stream in self._made:
            stream.wait_more(20)

    def stop(self):
        self.found = [stream.stop() for stream in self._made]
        for stream in self.found:
            print(f"{stream.address}: {stream.lost} of {stream.sent} lost, {stream.outage:.2f} s")

    @property
    def unharmed(self):
        """Nothing was lost; one request may have been on its way when the stream was stopped."""
        return all(stream.lost <= 1 for stream in self.found)

    @property
    def outage(self):
        """Seconds, the longest."""
        return max(stream.outage for stream in self.found)


@contextmanager
def pings(one, other):
    """Streams between two pods, answered at the end."""
    with streams(one, other) as made:
        running = Pings(made)
        yield running
        running.wait_more()
        running.stop()


def alive(node):
    """The nodes of which the store has heard, as ``node`` is told."""
    return {name for name, lives in node.nodes().items() if lives}


def together(work, items):
    """Do ``work`` for all items at once."""
    items = list(items)
    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(work, items))
