"""A node's rack by a label: a real API server, real roles, and what happens while it is away."""

from __future__ import annotations

import pytest

from coil.lab.wait import until
from kube.conftest import ADDRESS

LABEL = "topology.kubernetes.io/rack"


def start(machine):
    machine.start("--period=1", f"--rack-label={LABEL}")


def problems(machine):
    return [(row["kind"], row["problem"]) for row in machine.ask("/status")["problems"]]


def recorded(machine):
    (row,) = machine.listing("node", "list")
    return row["rack"]


@pytest.fixture
def pool(machine, etcd):
    machine.store = f"etcd://{ADDRESS}:2379/t?timeout=1"
    machine.ctl("pool", "create", "default", "10.77.0.0/24", "--block-bits=2", "--cool-down=0s")


def test_blocks_are_of_the_rack_that_the_label_names(kube, machine, pool, pods):
    kube.put_node("n0", rack="r1")
    start(machine)
    for number in range(6):  # more than a block has
        machine.add(f"c{number}", pods())
    until(lambda: recorded(machine) == "r1", "the record has the rack")
    (row,) = machine.listing("rack", "list")
    assert (row["rack"], row["blocks_outside"]) == ("r1", 0)
    assert row["blocks_inside"] >= 2
    assert problems(machine) == []


def test_an_api_server_that_is_away_leaves_the_rack_that_the_record_has(kube, machine, pool, pods):
    kube.put_node("n0", rack="r1")
    start(machine)
    until(lambda: recorded(machine) == "r1", "the record has the rack")
    kube.put_node("n0", rack="r2")
    kube.stop()
    machine.kill()
    start(machine)
    for number in range(6):
        machine.add(f"c{number}", pods())
    until(lambda: [kind for kind, _ in problems(machine)] == ["rack"], "the outage is told")
    assert "cannot be asked" in problems(machine)[0][1]
    assert recorded(machine) == "r1"
    (row,) = machine.listing("rack", "list")
    assert (row["rack"], row["blocks_outside"]) == ("r1", 0)
    kube.start()
    until(lambda: recorded(machine) == "r2", "the label counts again", 60)
    assert problems(machine) == []


def test_what_is_missing_is_told_with_what_to_do_and_pods_start(kube, machine, pool, pods):
    start(machine)
    machine.add("c1", pods())

    def says(*words):
        return any(k == "rack" and all(w in text for w in words) for k, text in problems(machine))

    until(lambda: says("has no /api/v1/nodes/n0", "--node-name n0 not its name"), "no Node")
    kube.put_node("n0")
    until(lambda: says(f"kubectl label node n0 {LABEL}=RACK"), "no label", 60)
    kube.put_node("n0", rack="r1")
    until(lambda: recorded(machine) == "r1", "the rack is known", 90)
    assert problems(machine) == []
    machine.kill()
    machine.account = kube.account("nobody", "apps", allowed=False)
    start(machine)
    until(
        lambda: says("service account of this pod may not get /api/v1/nodes/n0", "role"), "no role"
    )
    assert recorded(machine) == "r1"
