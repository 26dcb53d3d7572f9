"""A node's rack by a label: what Kubernetes says, what the store knows, and who waits for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from coil.daemon.rack import Rack
from coil.domain.names import NodeName, RackName
from coil.domain.node import Holder, NodeRecord
from coil.kube.errors import KubeForbidden, KubeNotFound, KubeUnavailable
from coil.process.problems import Problems
from store.rigs import MemoryRig, client

NODE = NodeName("n0")
AWAY = KubeUnavailable("Kubernetes at 192.0.2.1:443: cannot be asked (timed out)")


@asynccontextmanager
async def a_rack(answers, *, recorded="none"):
    """A rack whose API server gives these answers, one after the other, and then hangs."""
    problems = Problems()

    async def ask():
        if not answers:
            await asyncio.Event().wait()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with client(MemoryRig()) as store:
        if recorded != "none":
            rack = RackName(recorded) if recorded else None
            holder = Holder("machine", "boot", "place")
            record = NodeRecord(NODE, holder, "0", rack, addresses=(), seen=0)
            await store.hold_name(record, 60)
        rack = Rack(node=NODE, name=None, label="rack", ask=ask, store=store, problems=problems)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(rack.run())
            try:
                yield rack, problems
            finally:
                running.cancel()


async def reached(condition):
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


def told(problems):
    return [row["problem"] for row in problems.list() if row["kind"] == "rack"]


def test_the_label_is_the_rack_whatever_the_record_says():
    async def run():
        async with a_rack(["r1"], recorded="r9") as (rack, problems):
            assert await rack.get_for_claim() == "r1"
            assert await rack.get() == "r1"
            assert told(problems) == []

    asyncio.run(run())


@pytest.mark.parametrize("recorded", ["r9", "", "none"])
def test_until_kubernetes_answers_the_record_counts(recorded):
    async def run():
        async with a_rack([AWAY, AWAY, "r1"], recorded=recorded) as (rack, problems):
            before = (recorded if recorded != "none" else "") or None
            assert await rack.get() == before
            assert await rack.get_for_claim() == before
            assert told(problems) == [AWAY.message]

            async def is_told():
                return await rack.get() == "r1"

            await reached(is_told)
            assert told(problems) == []

    asyncio.run(run())


def test_a_claim_waits_a_moment_for_an_api_server_that_hangs_and_all_else_does_not():
    async def run():
        async with a_rack([], recorded="r9") as (rack, _problems):
            began = time.monotonic()
            assert await rack.get() == "r9"
            assert time.monotonic() - began < 2
            assert await rack.get_for_claim() == "r9"
            assert time.monotonic() - began > 2.9

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("", "node n0 has no label rack in Kubernetes: its blocks are those of no rack; kubectl "),
        ("a rack", "label rack of node n0: rack name 'a rack' must be"),
        (KubeNotFound("x: has no /api/v1/nodes/n0"), "or is --node-name n0 not its name there?"),
        (KubeForbidden("x: may not get"), "may not get"),
    ],
)
def test_what_is_wrong_is_a_problem_until_it_is_right(answer, says):
    async def run():
        async with a_rack([answer, "r1"]) as (rack, problems):
            assert await rack.get_for_claim() is None
            (problem,) = told(problems)
            assert says in problem

            async def is_told():
                return await rack.get() == "r1"

            await reached(is_told)
            assert told(problems) == []

    asyncio.run(run())


def test_a_label_that_is_removed_ends_what_the_record_says():
    async def run():
        async with a_rack([""], recorded="r9") as (rack, problems):
            assert await rack.get_for_claim() is None
            assert len(told(problems)) == 1

    asyncio.run(run())


def test_a_rack_that_was_told_asks_nobody():
    async def run():
        async with client(MemoryRig()) as store:
            rack = Rack(
                node=NODE, name=RackName("r1"), label="", ask=None, store=store, problems=Problems()
            )
            assert await rack.get() == await rack.get_for_claim() == "r1"

    asyncio.run(run())
