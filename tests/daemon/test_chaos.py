"""Many clients at once, with and without kills; the history must have one explanation."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from coil.lab.wait import until
from daemon.conftest import pool_of
from daemon.history import Hold, violations

pytestmark = pytest.mark.every_store


def test_the_checker_sees_an_address_held_twice():
    first = Hold("a", "x", 0, 1, 5)
    assert violations([first, Hold("b", "x", 2, 3, 9)], 0) != []
    assert violations([Hold("a", "x", 0, 1), Hold("b", "x", 2, 3)], 0) != []
    assert violations([first, Hold("b", "y", 2, 3, 9)], 0) == []
    assert violations([first, Hold("b", "x", 5, 6, 9)], 0) == []


def test_the_checker_sees_an_address_that_did_not_cool():
    first = Hold("a", "x", 0, 1, 5)
    assert violations([first, Hold("b", "x", 5, 6, 9)], 2) != []
    assert violations([first, Hold("b", "x", 5, 7.5, 9)], 2) == []


class Client:
    """Adds and deletes in one pod's namespace, and remembers."""

    def __init__(self, machine, name, pod, seed):
        self.machine = machine
        self.name = name
        self.pod = pod
        self.random = random.Random(seed)
        self.holds = []
        self.failures = []

    def cycle(self, number):
        attachment = f"{self.name}-{number}"
        asked = time.monotonic()
        reply = self.machine.cni("ADD", attachment, self.pod)
        given = time.monotonic()
        if reply.status:
            self.failures.append(("ADD", attachment, reply.json))
        else:
            if self.random.random() < 0.3:
                again = self.machine.cni("ADD", attachment, self.pod)
                assert again.status == 0, again.raw
                assert again.addresses == reply.addresses
        returned = time.monotonic()
        if not reply.status:
            self.holds.append(Hold(attachment, reply.addresses[0], asked, given, returned))
        netns = self.pod if self.random.random() < 0.7 else None
        for _time in range(self.random.choice([1, 1, 2])):
            gone = self.machine.cni("DEL", attachment, netns)
            if gone.status:
                self.failures.append(("DEL", attachment, gone.json))


def run_clients(clients, cycles, enough=lambda: True):
    """Each client goes on for so many cycles, and until ``enough`` holds."""

    def work(client):
        for number in count():
            if number >= cycles and enough():
                return
            client.cycle(number)

    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(work, clients))


def is_clean(machine):
    return machine.used() == {} and machine.links() == []


@pytest.mark.timeout(240)
def test_no_add_and_no_del_fails_while_coild_is_killed_at_random(machine):
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    machine.ctl("pool", "add-subnet", "default", "10.66.16.0/20,fd00:66::1:0/116")
    clients = [Client(machine, f"p{n}", pod, seed + n) for n, pod in enumerate(machine.pods(20))]
    stop, kills = threading.Event(), []

    def trouble():
        while not stop.wait(chance.uniform(0.02, 0.4)):
            machine.kill()
            kills.append(time.monotonic())
            stop.wait(chance.uniform(0, 0.1))
            machine.start()

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        run_clients(clients, 12, lambda: len(kills) >= 5)
    finally:
        stop.set()
        thread.join()
    assert [f for client in clients for f in client.failures] == []
    assert violations([h for client in clients for h in client.holds], 130) == []
    assert is_clean(machine)
    until(
        lambda: set(machine.routes(119)) == {b["networks"][0] for b in machine.claims()},
        "what is announced is what is owned",
    )
    assert all(dev == "unreachable" for dev in machine.routes(116).values())


@pytest.mark.timeout(240)
def test_no_address_is_held_twice_by_nodes_that_share_a_tight_pool(machines):
    """Blocks of four addresses wander between three nodes while coild of each is killed."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    first = machines()
    first.create_pool(pool_of("10.66.0.0/26", block_bits=2, cool_down=1))
    nodes = [first, *(machines(f"node{n}", store=first.store) for n in (2, 3))]
    for node in nodes:
        node.start()
    clients = [
        Client(node, f"{node.name}-{n}", pod, seed + 100 * n)
        for node in nodes
        for n, pod in enumerate(node.pods(4))
    ]
    stop = threading.Event()

    def trouble():
        while not stop.wait(chance.uniform(0.2, 0.8)):
            node = chance.choice(nodes)
            node.kill()
            node.start()

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        run_clients(clients, 15)
    finally:
        stop.set()
        thread.join()
    holds = [h for client in clients for h in client.holds]
    refused = [f for client in clients for f in client.failures if f[2]["code"] != 11]
    assert refused == []
    assert len(holds) > 60
    assert violations(holds, 1) == []
    for node in nodes:
        until(lambda node=node: is_clean(node), "all is gone")
    owners = [b["index"] for b in first.claims()]
    assert len(owners) == len(set(owners))
