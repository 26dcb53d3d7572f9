"""coild killed at each named step, and what is true after the next start."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from coil.daemon import steps
from coil.lab.wait import until
from daemon.conftest import pool_of

pytestmark = pytest.mark.every_store

KILLER = (sys.executable, Path(__file__).with_name("killer.py"))
ADD = (steps.ADD_JOURNALED, steps.ADD_LINKED, steps.ADD_ROUTED, steps.ADD_DONE)
DEL = (steps.DEL_STARTED, steps.DEL_UNLINKED, steps.DEL_DONE)
CLAIM = (steps.CLAIM_CONFIRMED, steps.CLAIM_JOURNALED, steps.CLAIM_EXPORTED)
RELEASE = (steps.RELEASE_MARKED, steps.RELEASE_WITHDRAWN, steps.RELEASE_DONE)


def test_every_named_step_is_tried():
    assert set(ADD + DEL + CLAIM + RELEASE) == set(steps.ALL)


def launch_killer(machine, step, count=1):
    machine.launch(*KILLER, f"{step}:{count}")


def wait_killed(machine):
    assert machine.wait_ended() == -signal.SIGKILL


def faults(machine):
    """Where journal, kernel and store differ, or the kernel is not as it should be."""
    blocks = {b["networks"][0] for b in machine.claims()}
    used = machine.used()
    pod_routes = machine.routes(116)
    found = {
        "exported": set(machine.routes(119)) ^ blocks,
        "owned": {b["networks"][0] for b in machine.blocks()} ^ blocks,
        "rest": {dst for dst, dev in pod_routes.items() if dev == "unreachable"} ^ blocks,
        "pods": {dst for dst, dev in pod_routes.items() if dev != "unreachable"} ^ set(used),
        "links": len(machine.links()) - len(used),
        "problems": machine.ask("/status")["problems"],
        "attachments": [f for a in used for f in machine.ask("/explain", subject=a)["faults"]],
    }
    return {what: difference for what, difference in found.items() if difference}


def agree(machine):
    """Soon: a spare block may be fetched or given back just now."""
    until(lambda: not faults(machine), lambda: f"all agree, less {faults(machine)}")


@pytest.mark.parametrize("step", ADD)
def test_an_add_that_was_cut_off_is_completed(machine, step):
    pod, other = machine.pods(2)
    machine.add("other", other)
    machine.stop()
    launch_killer(machine, step)
    adding = machine.spawn("ADD", "a", pod)
    wait_killed(machine)
    machine.start()
    out, _ = adding.communicate(timeout=30)
    assert adding.returncode == 0, out
    agree(machine)
    assert sorted(machine.used().values()) == ["a", "other"]
    address = next(a for a, c in machine.used().items() if c == "a")
    other.run("ping", "-c1", "-W5", address)
    assert machine.add("a", pod).addresses[0] == address
    machine.delete("a", pod)
    machine.delete("other", other)
    agree(machine)
    assert machine.used() == {}


@pytest.mark.parametrize("step", [steps.ADD_LINKED, steps.ADD_ROUTED])
def test_a_repeat_in_another_namespace_that_was_cut_off_is_completed(machine, step):
    pod, other = machine.pods(2)
    told = machine.add("a", pod)
    machine.stop()
    launch_killer(machine, step)
    adding = machine.spawn("ADD", "a", other)
    wait_killed(machine)
    machine.start()
    assert machine.reply(adding).json["ips"] == told.json["ips"]
    agree(machine)
    assert machine.ask("/addresses")[0]["netns"] == str(other.path)
    assert len(pod.ip("link")) == 1
    machine.delete("a", other)
    agree(machine)
    assert machine.used() == {}


@pytest.mark.parametrize("step", ADD)
def test_an_add_that_nobody_repeats_ends_with_its_del(machine, step):
    pod = machine.pods()
    machine.stop()
    launch_killer(machine, step)
    adding = machine.spawn("ADD", "a", pod)
    wait_killed(machine)
    adding.kill()
    adding.communicate()
    machine.start()
    machine.delete("a", pod)
    agree(machine)
    assert machine.used() == {}
    assert len(pod.ip("link")) == 1


@pytest.mark.parametrize("step", ADD)
def test_an_add_without_del_whose_pod_is_gone_is_collected(machine, step):
    from coil.lab.host import host as new_host

    with new_host("coil-pod") as pod:
        machine.stop()
        launch_killer(machine, step)
        adding = machine.spawn("ADD", "a", pod)
        wait_killed(machine)
        adding.kill()
        adding.communicate()
    machine.start("--period=0.3")
    until(lambda: machine.used() == {}, "the collector frees the address")
    agree(machine)


@pytest.mark.parametrize("step", DEL)
def test_a_del_that_was_cut_off_is_completed(machine, step):
    pod, other = machine.pods(2)
    machine.add("a", pod)
    machine.add("other", other)
    machine.stop()
    launch_killer(machine, step)
    deleting = machine.spawn("DEL", "a", pod)
    wait_killed(machine)
    machine.start()
    out, _ = deleting.communicate(timeout=30)
    assert deleting.returncode == 0, out
    agree(machine)
    assert list(machine.used().values()) == ["other"]
    assert len(pod.ip("link")) == 1
    cooling = [r for r in machine.ask("/addresses") if r["state"] == "cooling"]
    assert len(cooling) == 1


@pytest.mark.parametrize("step", CLAIM)
def test_a_claim_that_was_cut_off_is_settled(machines, step):
    machine = machines()
    machine.create_pool(pool_of("10.66.0.0/28", block_bits=2))
    launch_killer(machine, step)
    wait_killed(machine)
    machine.start()
    agree(machine)
    assert len(machine.claims()) == 1
    pods = machine.pods(4)
    held = [machine.add(f"c{n}", pod).addresses[0] for n, pod in enumerate(pods)]
    assert len(set(held)) == 4
    agree(machine)


@pytest.mark.parametrize("step", RELEASE)
def test_a_release_that_was_cut_off_is_continued(machines, step):
    machine = machines()
    machine.create_pool(pool_of("10.66.0.0/28", block_bits=1, cool_down=0))
    machine.start()
    pods = machine.pods(4)
    for n, pod in enumerate(pods):
        machine.add(f"c{n}", pod)
    machine.stop()
    launch_killer(machine, step)
    plugins = [machine.spawn("DEL", f"c{n}", pod) for n, pod in enumerate(pods)]
    wait_killed(machine)
    machine.start()
    for plugin in plugins:
        plugin.communicate(timeout=30)
        assert plugin.returncode == 0
    until(lambda: len(machine.claims()) == 1, "blocks are given back")
    agree(machine)


def test_a_killed_plugin_leaves_nothing_once_its_del_has_come(machine):
    """Killed at any moment between nothing sent and answer received."""
    pod = machine.pods()
    for delay in (0, 0.0005, 0.001, 0.002, 0.003, 0.005):
        adding = machine.spawn("ADD", "a", pod)
        deadline = time.monotonic() + delay
        until(lambda end=deadline: time.monotonic() >= end, "a moment")
        adding.kill()
        adding.communicate()
        machine.delete("a", pod)
        assert machine.used() == {}
        assert machine.links() == []
        assert len(pod.ip("link")) == 1
    agree(machine)
