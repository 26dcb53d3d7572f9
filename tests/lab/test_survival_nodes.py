"""Nodes that die, lose their blocks and come back; coilds killed between any two steps."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager

import pytest

from coil.daemon import steps
from coil.lab.clos.faults import How
from coil.lab.host import host as new_host
from coil.lab.wait import until
from daemon import killer
from lab.storm import OFF, POOL, alive, pings, pods_that_stay, storm, together

pytestmark = pytest.mark.timeout(240)

KILLER = (sys.executable, killer.__file__)
CLAIM = [step for step in steps.ALL if step.startswith("claim-")]
RELEASE = [step for step in steps.ALL if step.startswith("release-")]
TIGHT = "10.99.0.0/26"
"""16 blocks: who needs another one gets that of a node that is gone."""
MANY = 32
"""Pods: more than a node of the storm ever has free addresses for."""
TRY_AGAIN = 11


@contextmanager
def without_power(lab, name):
    try:
        lab.faults.fail_node(name)
        yield
    finally:
        lab.faults.heal_node(name)


@contextmanager
def without_cable(lab, tor, name):
    """It runs, and neither hears nor is heard."""
    try:
        lab.faults.fail_link(tor, name)
        yield
    finally:
        lab.faults.heal_link(tor, name)


@contextmanager
def without_bird(lab, name, how):
    """Its neighbours drop it; what BIRD wrote into its kernel stays."""
    try:
        lab.faults.fail_bird(name, how)
        yield
    finally:
        lab.faults.heal_bird(name)


@contextmanager
def killed_at(lab, node, step):
    """coild of this node kills itself at ``step``, which it must have at the end; then it runs."""
    rack = lab.plan.machines[node.name].rack
    lab.faults.fail_coild(node.name)
    try:
        node.launch(*KILLER, f"{step}:1", f"--rack={rack}", "--period=2", "--config=/dev/null")
        yield
        assert node.wait_ended() == -signal.SIGKILL
    finally:
        node.kill()
        lab.faults.heal_coild(node.name)


def claim_and_release(lab, node, claim, release):
    """Many pods start and end at once, and coild is killed while it fetches and gives back."""
    with ExitStack() as stack:
        pods = [stack.enter_context(new_host("coil-pod")) for _ in range(MANY)]
        for verb, step in (("ADD", claim), ("DEL", release)):
            plugins = []
            with killed_at(lab, node, step):
                for pod in pods:
                    plugins.append(stack.enter_context(node.spawn(verb, f"many-{pod.name}", pod)))
            for pod, plugin in zip(pods, plugins, strict=True):
                done = node.reply(plugin)
                if done.code == TRY_AGAIN:
                    done = asked_again(node, verb, pod)
                assert done.status == 0, done.raw


def asked_again(node, verb, pod):
    """The plugin's answer to a runtime that asks until it is not told to try again later."""

    def ask():
        done = node.cni(verb, f"many-{pod.name}", pod)
        return done if done.code != TRY_AGAIN else None

    return until(ask, f"{node.name} does {verb} of {pod.name}", 60)


def blocks_of(node, name):
    """The networks that a node owns in the storm's pool."""
    rows = node.claims(name)
    return {row["networks"][0] for row in rows if row["pool"] == POOL}


def taken_by_others(churn, name, blocks):
    """Until another node announces one of these blocks, as soon as it needs one."""
    others = [node for node in churn.nodes.values() if node.name != name]
    with pods_that_stay(churn, others[0]) as start:

        def is_taken():
            if any(blocks & node.exported() for node in others):
                return True
            start()
            return False

        until(is_taken, "another node has its blocks", 40)


def test_coild_is_killed_at_each_step_of_claim_and_release(lab, pair):
    with storm(lab) as churn, pings(*pair) as packets:
        jobs = list(zip(churn.nodes.values(), CLAIM, RELEASE, strict=False))
        together(lambda job: claim_and_release(lab, *job), jobs)
        churn.wait_more(20)
        churn.end()
        churn.check_settled()
    assert packets.unharmed
    assert churn.refused(TRY_AGAIN) == []
    churn.check()


def test_a_node_loses_its_power_and_its_blocks_and_comes_back(lab):
    one, other = lab.add_pod("a", "r1n1"), lab.add_pod("b", "r2n2")
    with storm(lab, TIGHT) as churn, pings(one, other) as packets:
        churn.wait_more_on("r2n1", 3)
        watcher = churn.nodes["r1n1"]
        blocks = blocks_of(watcher, "r2n1")  # before: a busy machine may be slower than the grace
        assert blocks
        with without_power(lab, "r2n1"):
            until(lambda: not blocks_of(watcher, "r2n1"), "its blocks are taken", 60)
            taken_by_others(churn, "r2n1", blocks)
            churn.wait_more(10)
        until(lambda: alive(watcher) == set(churn.nodes), "it is back")
        churn.wait_more_on("r2n1", 5, seconds=60)
        churn.end()
        churn.check_settled()
    assert packets.unharmed
    assert {each[1][:4] for each in churn.refused(11)} <= {"r2n1"}
    assert churn.refused(11, OFF) == []
    churn.check()


SILENCES = {
    "cable": lambda lab: without_cable(lab, "tor2", "r2n2"),
    "bird killed": lambda lab: without_bird(lab, "r2n2", How.KILL),
    "bird hangs": lambda lab: without_bird(lab, "r2n2", How.SUSPEND),
}


@pytest.mark.parametrize("silence", SILENCES)
def test_a_node_that_nobody_hears_loses_its_blocks_and_fences_itself(lab, silence):
    """It runs all the while, and nobody tells it that it is taken for gone."""
    one, other = lab.add_pod("a", "r1n1"), lab.add_pod("b", "r2n1")
    with storm(lab, TIGHT) as churn, pings(one, other) as packets:
        churn.wait_more_on("r2n2", 3)
        watcher, lost = churn.nodes["r1n1"], churn.nodes["r2n2"]
        with SILENCES[silence](lab):
            blocks = lost.exported()
            assert blocks
            until(lambda: not lost.exported(), "it withdraws what nobody can hear", 60)
            until(lambda: not blocks_of(watcher, "r2n2"), "its blocks are taken", 60)
            taken_by_others(churn, "r2n2", blocks)
            churn.wait_more(10)
        until(lambda: alive(watcher) == set(churn.nodes), "it is back", 60)
        churn.wait_more_on("r2n2", 5, seconds=60)
        churn.end()
        churn.check_settled()
    assert packets.unharmed
    assert churn.refused(11) == []
    churn.check()
