"""The contract between real processes: races, and death by kill -9 at any moment."""

from __future__ import annotations

import json
import random
from itertools import combinations
from typing import Any

import pytest

from coil.domain.errors import SubnetOverlap
from coil.domain.names import NodeName, PoolName
from coil.domain.pool import Pool, check_overlap, parse_subnet
from store.rigs import Process, SharedRig, client, processes

NAME = PoolName("default")
Event = dict[str, Any]


def pool(subnet: str) -> Pool:
    return Pool(NAME, (parse_subnet(subnet),), 0)


def events(process: Process) -> list[Event]:
    return [json.loads(line) for line in process.lines()]


def overlap(a: Event, b: Event) -> bool:
    """Whether two spans of time have a moment in common; an open one lasts for ever."""
    end_a, end_b = a["until"] or float("inf"), b["until"] or float("inf")
    return bool(a["since"] < end_b and b["since"] < end_a)


def inside(a: Event, b: Event) -> bool:
    """Whether all of ``a`` happened during ``b``."""
    return bool(b["since"] < a["since"] and a["until"] < (b["until"] or float("inf")))


async def test_no_block_has_two_owners_at_any_moment(shared_rig: SharedRig) -> None:
    async with client(shared_rig) as store:
        await store.create_pool(pool("10.0.0.0/28"))
        nodes = [f"node-{number}" for number in range(4)]
        with processes(
            *([shared_rig.url, "churn", node, NAME, "150", "99"] for node in nodes)
        ) as started:
            histories = [events(process) for process in started]
        held = [event for history in histories for event in history]
        assert len({event["revision"] for event in held}) == len(held) > 100
        by_block: dict[int, list[Event]] = {}
        for event in held:
            by_block.setdefault(event["index"], []).append(event)
        for spans in by_block.values():
            assert not [pair for pair in combinations(spans, 2) if overlap(*pair)]
        for node, history in zip(nodes, histories, strict=True):
            kept = {(e["index"], e["revision"]) for e in history if e["until"] is None}
            mine = await store.list_node_blocks(NodeName(node))
            assert {(claim.id.index, claim.revision) for claim in mine} == kept


async def test_a_pool_is_never_deleted_while_a_block_of_it_is_held(shared_rig: SharedRig) -> None:
    async with client(shared_rig) as store:
        await store.create_pool(pool("10.0.0.0/28"))
        commands = [
            [shared_rig.url, "delete-and-create", NAME, "10.0.0.0/28", "300"],
            [shared_rig.url, "churn", "node-a", NAME, "400", "1"],
            [shared_rig.url, "churn", "node-b", NAME, "400", "1"],
        ]
        with processes(*commands) as started:
            deletions, a, b = [events(process) for process in started]
        deleted = [event for event in deletions if "until" in event]
        assert deleted
        assert len(deleted) < len(deletions)
        # A claim was in force at least from its confirmation to the beginning of its release.
        assert not [d for d in deleted for held in a + b if inside(d, held)]
        left = {event["index"] for event in a + b if event["until"] is None}
        assert {claim.id.index for claim in await store.list_pool_blocks(NAME)} == left


async def test_pools_made_at_once_by_many_never_overlap(shared_rig: SharedRig) -> None:
    subnets = [
        f"10.0.0.{start}/{bits}"
        for bits in range(26, 31)
        for start in range(0, 256, 2 ** (32 - bits))
    ]
    random.Random(1).shuffle(subnets)
    wanted = subnets[:40]
    commands = [
        [shared_rig.url, "create-all", str(seed), f"p{seed}-", *wanted] for seed in range(3)
    ]
    with processes(*commands) as started:
        outcomes = [event for process in started for event in events(process)]
    async with client(shared_rig) as store:
        there = {each.name: str(each.subnets[0]) for each in await store.list_pools()}
        assert there == {e["name"]: e["made"] for e in outcomes if "made" in e}
        check_overlap(parse_subnet(subnet) for subnet in there.values())
        # Each refusal was right: what was wanted overlaps with what is there.
        for subnet in wanted:
            with pytest.raises(SubnetOverlap):
                check_overlap(map(parse_subnet, [*there.values(), subnet]))


async def test_what_another_process_does_is_watched(shared_rig: SharedRig) -> None:
    async with client(shared_rig) as store:
        await store.create_pool(pool("10.0.0.0/24"))
        watch = store.watch_node_blocks(NodeName("node-a"))
        seen = [await anext(watch)]
        with processes([shared_rig.url, "churn", "node-a", NAME, "60", "99"]) as (process,):
            kept = {e["revision"] for e in events(process) if e["until"] is None}
        while {claim.revision for claim in seen[-1]} != kept:
            seen.append(await anext(watch))
        assert kept


async def test_confirmed_claims_survive_a_kill_at_any_moment(shared_rig: SharedRig) -> None:
    chance = random.Random(7)
    async with client(shared_rig) as store:
        await store.create_pool(pool("10.0.0.0/16"))
        for round_number in range(4):
            nodes = [f"killed-{round_number}", f"other-{round_number}"]
            with processes(*([shared_rig.url, "claim-forever", n, NAME] for n in nodes)) as started:
                killed, other = started
                said = [killed.read_line() for _ in range(chance.randrange(1, 40))]
                said += killed.kill()
                # Nobody has to clean up before others can go on.
                after = [other.read_line() for _ in range(200)][-1]
                assert after
                other.kill()
            confirmed = {(e["index"], e["revision"]) for e in map(json.loads, said)}
            mine = await store.list_node_blocks(NodeName(nodes[0]))
            stored = {(claim.id.index, claim.revision) for claim in mine}
            # The claim that was being made when it died may or may not have been.
            assert confirmed <= stored
            assert len(stored) - len(confirmed) <= 1
        claims = await store.list_pool_blocks(NAME)
        assert len({claim.revision for claim in claims}) == len(claims)
        for claim in claims[:5]:
            assert await store.release_blocks([claim]) == [claim]
