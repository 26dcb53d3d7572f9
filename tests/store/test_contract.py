"""What every store guarantees: the promises of coil.store.contract, one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import pytest

from coil.domain.block import BlockClaim, BlockId
from coil.domain.errors import (
    CoilError,
    InvalidPool,
    OutOfBlocks,
    PoolCordoned,
    PoolExists,
    PoolInUse,
    PoolNotFound,
    SubnetOverlap,
)
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import Holder, NodeRecord
from coil.domain.pool import Pool, parse_subnet
from coil.domain.survey import Survey
from coil.store.contract import Release, Store
from coil.store.errors import StoreUnavailable
from store.rigs import Rig, client

T = TypeVar("T")
A, B = NodeName("node-a"), NodeName("node-b")
NAME = PoolName("default")
OTHER = PoolName("other")


def pool(name: str = "default", *subnets: str, bits: int = 5) -> Pool:
    return Pool(PoolName(name), tuple(map(parse_subnet, subnets or ("10.0.0.0/24",))), bits)


def indexes(claims: Sequence[BlockClaim]) -> list[int]:
    return [claim.id.index for claim in claims]


@asynccontextmanager
async def clients(rig: Rig, count: int) -> AsyncIterator[list[Store]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client(rig)) for _ in range(count)]


async def all_outcomes(calls: Sequence[Awaitable[T]]) -> list[T | BaseException]:
    """Run calls at once; their results and exceptions."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def first(watch: AsyncIterator[T], wanted: Callable[[T], bool]) -> T:
    """The first item that is wanted."""
    async with asyncio.timeout(20):
        async for item in watch:
            if wanted(item):
                return item
    raise AssertionError("the watch ended")


# Pools


@pytest.mark.parametrize(
    "made",
    [
        pool("default", "10.0.0.0/16"),
        pool("six", "fd00:64::/64", "fd00:65::/112"),
        pool("dual", "10.0.0.0/24,fd00::/120", "10.1.0.0/25,fd00:1::/121", bits=0),
        replace(pool("odd"), cool_down=0, cordoned=True),
    ],
    ids=lambda made: made.name,
)
async def test_a_pool_that_was_made_is_seen_as_it_was_by_everybody(rig: Rig, made: Pool) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(made)
        for each in (store, other):
            assert await each.get_pool(made.name) == made
            assert await each.list_pools() == [made]


async def test_pools_are_listed_by_name(rig: Rig) -> None:
    async with client(rig) as store:
        assert await store.list_pools() == []
        for number, name in enumerate(["m", "z", "a", "a-1"]):
            await store.create_pool(pool(name, f"10.{number}.0.0/24"))
        assert [each.name for each in await store.list_pools()] == ["a", "a-1", "m", "z"]


async def test_a_name_is_taken_once_and_the_first_pool_stays(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        for again in (pool(), pool("default", "10.9.0.0/24")):
            with pytest.raises(PoolExists, match="default"):
                await store.create_pool(again)
        assert await store.list_pools() == [pool()]


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("10.0.0.0/16", "10.0.4.0/24"),
        ("10.0.4.0/24", "10.0.0.0/16"),
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("fd00::/64", "fd00::/112"),
        ("10.0.0.0/24,fd00::/120", "10.1.0.0/24,fd00::/120"),
        ("10.0.0.0/24,fd00::/120", "10.0.0.128/25"),
        ("10.0.0.0/24,fd00::/120", "fd00::80/121"),
    ],
)
async def test_no_two_pools_share_an_address(rig: Rig, there: str, wanted: str) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool("first", there))
        with pytest.raises(SubnetOverlap):
            await other.create_pool(pool("second", wanted))
        assert await store.list_pools() == [pool("first", there)]


async def test_of_many_creations_at_once_one_succeeds(rig: Rig) -> None:
    async with clients(rig, 4) as stores:
        same = await all_outcomes([store.create_pool(pool()) for store in stores])
        assert sorted(map(type, same), key=str).count(PoolExists) == 3
        overlapping = [pool(f"p{n}", "10.7.0.0/24") for n in range(4)]
        outcomes = await all_outcomes(
            [s.create_pool(p) for s, p in zip(stores, overlapping, strict=True)]
        )
        assert [type(o) for o in outcomes if o is not None] == [SubnetOverlap] * 3
        assert len(await stores[0].list_pools()) == 2


async def test_a_subnet_is_added_at_the_end(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        grown = await store.add_subnet(NAME, parse_subnet("10.8.0.0/24"))
        assert grown == pool("default", "10.0.0.0/24", "10.8.0.0/24")
        assert await other.get_pool(NAME) == grown


async def test_a_subnet_that_does_not_fit_is_refused_and_changes_nothing(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        await store.create_pool(pool("other", "10.1.0.0/24"))
        refusals: list[tuple[PoolName, str, type[CoilError]]] = [
            (NAME, "10.0.0.0/25", SubnetOverlap),
            (NAME, "10.1.0.0/16", SubnetOverlap),
            (NAME, "fd00::/112", InvalidPool),
            (NAME, "10.2.0.0/28", InvalidPool),
            (PoolName("absent"), "10.2.0.0/24", PoolNotFound),
        ]
        for name, subnet, error in refusals:
            with pytest.raises(error):
                await store.add_subnet(name, parse_subnet(subnet))
        assert await store.list_pools() == [pool(), pool("other", "10.1.0.0/24")]


async def test_subnets_added_at_once_are_all_there(rig: Rig) -> None:
    async with clients(rig, 4) as stores:
        await stores[0].create_pool(pool())
        added = [parse_subnet(f"10.{n}.0.0/24") for n in range(1, 5)]
        await asyncio.gather(
            *(s.add_subnet(NAME, subnet) for s, subnet in zip(stores, added, strict=True))
        )
        assert set((await stores[0].get_pool(NAME)).subnets) == {*pool().subnets, *added}


async def test_cordoning_is_idempotent_and_can_be_undone(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        for cordoned in (True, True, False, False):
            changed = await store.set_cordoned(NAME, cordoned=cordoned)
            assert changed == replace(pool(), cordoned=cordoned) == await other.get_pool(NAME)


async def test_a_pool_that_is_not_there_is_not_found(rig: Rig) -> None:
    async with client(rig) as store:
        for call in (
            store.get_pool(NAME),
            store.delete_pool(NAME),
            store.set_cordoned(NAME, cordoned=True),
            store.claim_blocks(A, NAME, 1),
            store.reclaim_blocks(A, NAME, [0]),
            store.list_pool_blocks(NAME),
        ):
            with pytest.raises(PoolNotFound, match="default"):
                await call


async def test_a_pool_in_use_stays_and_the_refusal_says_by_whom(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        claims = [*await store.claim_blocks(A, NAME, 2), *await store.claim_blocks(B, NAME, 1)]
        with pytest.raises(PoolInUse, match=r"3.*node-a.*node-b"):
            await other.delete_pool(NAME)
        assert len(await store.list_pool_blocks(NAME)) == 3
        for claim in claims:
            await store.release_blocks([claim])
        await other.delete_pool(NAME)
        assert await store.list_pools() == []


async def test_a_deleted_pool_leaves_name_and_addresses_to_the_next(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (old,) = await store.reclaim_blocks(A, NAME, [0])
        await store.release_blocks([old])
        await store.delete_pool(NAME)
        await store.create_pool(pool("other"))
        await store.delete_pool(OTHER)
        await store.create_pool(pool("default", "10.0.0.0/27"))
        (new,) = await store.claim_blocks(A, NAME, 1)
        assert new.id == old.id
        assert await store.release_blocks([old]) == []
        assert await store.list_node_blocks(A) == [new]


# Claims


async def test_claimed_blocks_are_the_nodes_own_and_seen_by_everybody(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        claims = await store.claim_blocks(A, NAME, 3)
        assert [claim.node for claim in claims] == [A] * 3
        assert [claim.id.pool for claim in claims] == [NAME] * 3
        assert len(set(indexes(claims))) == 3
        assert set(indexes(claims)) <= set(range(8))
        in_order = sorted(claims, key=lambda claim: claim.id.index)
        for each in (store, other):
            assert await each.list_node_blocks(A) == in_order
            assert await each.list_pool_blocks(NAME) == in_order
            assert await each.list_node_blocks(B) == []


async def test_what_is_left_is_given_and_then_nothing(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool("default", "10.0.0.0/25"))
        assert len(await store.claim_blocks(A, NAME, 3)) == 3
        assert len(await store.claim_blocks(B, NAME, 3)) == 1
        with pytest.raises(OutOfBlocks, match="default") as caught:
            await store.claim_blocks(B, NAME, 1)
        assert caught.value.transient
        assert len(await store.list_pool_blocks(NAME)) == 4


async def test_a_full_pool_gives_again_after_a_release_or_a_new_subnet(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool("default", "10.0.0.0/26"))
        first_claim, _second = await store.claim_blocks(A, NAME, 2)
        assert await store.release_blocks([first_claim]) == [first_claim]
        (again,) = await store.claim_blocks(B, NAME, 5)
        assert again.id == first_claim.id
        await store.add_subnet(NAME, parse_subnet("10.1.0.0/27"))
        assert indexes(await store.claim_blocks(B, NAME, 5)) == [2]


async def test_a_cordoned_pool_gives_nothing_and_takes_back(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1)
        await store.set_cordoned(NAME, cordoned=True)
        with pytest.raises(PoolCordoned, match="default") as caught:
            await store.claim_blocks(A, NAME, 1)
        assert caught.value.transient
        assert await store.list_node_blocks(A) == [claim]
        assert await store.release_blocks([claim]) == [claim]


async def test_every_new_owner_has_a_new_revision(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool("default", "10.0.0.0/27"))
        revisions = []
        for node in (A, B, A, A):
            (claim,) = await store.claim_blocks(node, NAME, 1)
            revisions.append(claim.revision)
            await store.release_blocks([claim])
        assert len(set(revisions)) == 4


async def test_a_release_works_once(rig: Rig) -> None:
    async with clients(rig, 4) as stores:
        await stores[0].create_pool(pool())
        (claim,) = await stores[0].claim_blocks(A, NAME, 1)
        outcomes = await all_outcomes([store.release_blocks([claim]) for store in stores])
        assert sorted(outcomes, key=len) == [[], [], [], [claim]]
        assert await stores[0].list_pool_blocks(NAME) == []


async def test_of_blocks_released_together_each_is_for_itself(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        claims = await store.claim_blocks(A, NAME, 20)
        lost, kept, *others = claims
        await store.release_blocks([lost])
        (foreign,) = await store.reclaim_blocks(B, NAME, [lost.id.index])
        assert await store.release_blocks([others[0], lost, *others[1:]]) == others
        assert await store.release_blocks([]) == []
        left = sorted([foreign, kept], key=lambda claim: claim.id.index)
        assert await store.list_pool_blocks(NAME) == left


async def test_a_late_release_frees_nothing_of_the_new_owner(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool("default", "10.0.0.0/27"))
        (late,) = await store.claim_blocks(A, NAME, 1)
        await store.release_blocks([late])
        (new,) = await store.claim_blocks(B, NAME, 1)
        assert await store.release_blocks([late]) == []
        assert await store.release_blocks([replace(new, node=A)]) == []
        assert await store.release_blocks([replace(late, node=B)]) == []
        assert await store.list_pool_blocks(NAME) == [new]


async def test_the_blocks_of_a_node_come_by_pool_and_index(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool("z", "10.1.0.0/16", bits=0))
        await store.create_pool(pool("a"))
        await store.reclaim_blocks(A, PoolName("z"), [10, 9, 100])
        await store.reclaim_blocks(B, PoolName("z"), [50])
        await store.reclaim_blocks(A, PoolName("a"), [3])
        found = [(c.id.pool, c.id.index) for c in await store.list_node_blocks(A)]
        assert found == [("a", 3), ("z", 9), ("z", 10), ("z", 100)]
        assert indexes(await store.list_pool_blocks(PoolName("z"))) == [9, 10, 50, 100]


async def test_the_very_blocks_are_had_again_where_nobody_else_has_them(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (kept,) = await store.reclaim_blocks(A, NAME, [5])
        (others,) = await store.reclaim_blocks(B, NAME, [2])
        had = await store.reclaim_blocks(A, NAME, [7, 5, 2, 0, 7])
        assert sorted(indexes(had)) == [0, 5, 7]
        assert kept in had
        assert await store.list_pool_blocks(NAME) == sorted(
            [*had, others], key=lambda claim: claim.id.index
        )
        assert await store.reclaim_blocks(A, NAME, []) == []


async def test_blocks_are_had_again_of_a_cordoned_pool(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(replace(pool(), cordoned=True))
        assert indexes(await store.reclaim_blocks(A, NAME, [1])) == [1]


@pytest.mark.parametrize("index", [-1, 8, 2**64])
async def test_a_block_that_is_not_in_the_pool_cannot_be_had(rig: Rig, index: int) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        with pytest.raises(InvalidPool):
            await store.reclaim_blocks(A, NAME, [0, index])
        assert await store.list_pool_blocks(NAME) == []


async def test_blocks_claimed_at_once_have_one_owner_each(rig: Rig) -> None:
    async with clients(rig, 4) as stores:
        await stores[0].create_pool(pool("default", "10.0.0.0/22"))
        calls = [
            store.claim_blocks(NodeName(f"n{number}"), NAME, 3)
            for _ in range(3)
            for number, store in enumerate(stores)
        ]
        outcomes = await all_outcomes(calls)
        claims = [claim for outcome in outcomes if isinstance(outcome, list) for claim in outcome]
        assert sorted(indexes(claims)) == list(range(32))
        assert all(isinstance(o, list | OutOfBlocks) for o in outcomes)
        assert sorted(claims, key=lambda c: c.id.index) == await stores[0].list_pool_blocks(NAME)
        assert len({claim.revision for claim in claims}) == 32


@pytest.mark.parametrize("racks", [0, 3])
async def test_no_claim_is_refused_while_a_block_is_free(rig: Rig, racks: int) -> None:
    """As many nodes as blocks, each with one at most: there is always one for who asks."""

    async def churn(store: Store, number: int) -> None:
        rack = RackName(f"r{number % racks}") if racks else None
        for _ in range(15):
            (claim,) = await store.claim_blocks(NodeName(f"n{number}"), NAME, 1, rack)
            await asyncio.sleep(0)
            assert await store.release_blocks([claim]) == [claim]

    async with clients(rig, 16) as stores:
        await stores[0].create_pool(pool("default", "10.0.0.0/23"))
        async with asyncio.TaskGroup() as group:
            for number, store in enumerate(stores):
                group.create_task(churn(store, number))
        assert await stores[0].list_pool_blocks(NAME) == []


@pytest.mark.parametrize("racks", [0, 3])
async def test_what_is_given_at_once_at_the_end_of_a_pool_is_all_there_is(
    rig: Rig, racks: int
) -> None:
    async with clients(rig, 4) as stores:
        await stores[0].create_pool(pool("default", "10.0.0.0/21"))
        outcomes = await all_outcomes(
            [
                stores[number % 4].claim_blocks(
                    NodeName(f"n{number}"),
                    NAME,
                    3,
                    RackName(f"r{number % racks}") if racks else None,
                )
                for number in range(24)
            ]
        )
        assert {type(each) for each in outcomes} <= {list, OutOfBlocks}
        given = [claim for each in outcomes if isinstance(each, list) for claim in each]
        assert sorted(indexes(given)) == list(range(64))


async def test_a_call_that_is_cancelled_leaves_a_store_that_works(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool("default", "10.0.0.0/16"))
        for turns in range(40):
            call = asyncio.create_task(store.claim_blocks(A, NAME, 1))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        # What was cancelled may still be under way, and be done after the list is read.
        while await store.list_pool_blocks(NAME):
            mine = await store.list_node_blocks(A)
            assert len(set(indexes(mine))) == len(mine) <= 40
            for claim in mine:
                assert await store.release_blocks([claim]) == [claim]


# Watches


async def test_a_watch_begins_with_what_is(rig: Rig) -> None:
    async with client(rig) as store:
        assert await first(store.watch_pools(), lambda _: True) == []
        assert await first(store.watch_node_blocks(A), lambda _: True) == []
        await store.create_pool(pool())
        claims = await store.claim_blocks(A, NAME, 2)
        assert await first(store.watch_pools(), lambda _: True) == [pool()]
        assert await first(store.watch_node_blocks(A), lambda _: True) == claims


@pytest.mark.parametrize("writer", ["itself", "another client"])
async def test_a_watch_of_pools_sees_every_kind_of_change(rig: Rig, writer: str) -> None:
    async with clients(rig, 2) as (store, other):
        write = store if writer == "itself" else other
        watch = store.watch_pools()
        assert await first(watch, lambda _: True) == []
        await write.create_pool(pool())
        assert await first(watch, bool) == [pool()]
        grown = await write.add_subnet(NAME, parse_subnet("10.1.0.0/24"))
        await first(watch, lambda pools: pools == [grown])
        cordoned = await write.set_cordoned(NAME, cordoned=True)
        await first(watch, lambda pools: pools == [cordoned])
        await write.delete_pool(NAME)
        await first(watch, lambda pools: not pools)


@pytest.mark.parametrize("writer", ["itself", "another client"])
async def test_a_watch_of_blocks_sees_claims_and_releases(rig: Rig, writer: str) -> None:
    async with clients(rig, 2) as (store, other):
        write = store if writer == "itself" else other
        await store.create_pool(pool("default", "10.0.0.0/27"))
        watch = store.watch_node_blocks(A)
        assert await first(watch, lambda _: True) == []
        (claim,) = await write.claim_blocks(A, NAME, 1)
        assert await first(watch, bool) == [claim]
        await write.release_blocks([claim])
        await write.claim_blocks(B, NAME, 1)
        assert await first(watch, lambda claims: not claims) == []


async def test_a_watch_shows_one_node_only(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool("default", "10.0.0.0/22"))
        watch = store.watch_node_blocks(A)
        seen = [await anext(watch)]
        for _ in range(5):
            await other.claim_blocks(B, NAME, 1)
        mine = await other.claim_blocks(A, NAME, 1)
        while seen[-1] != mine:
            seen.append(await anext(watch))
        assert all(claim.node == A for claims in seen for claim in claims)


@pytest.mark.parametrize("writer", ["itself", "another client"])
async def test_a_watch_of_all_claims_sees_those_of_every_node_and_pool(
    rig: Rig, writer: str
) -> None:
    async with clients(rig, 2) as (store, other):
        write = store if writer == "itself" else other
        await store.create_pool(pool())
        await store.create_pool(pool("other", "10.1.0.0/24"))
        (there,) = await store.claim_blocks(A, NAME, 1)
        watch = store.watch_claims()
        expected = {there.id: there}
        assert await first(watch, lambda _: True) == expected
        for node, name in ((B, NAME), (A, OTHER), (B, OTHER)):
            claims = await write.claim_blocks(node, name, 2)
            expected |= {claim.id: claim for claim in claims}
            await first(watch, expected.__eq__)
        for claim in list(expected.values()):
            await write.release_blocks([claim])
            del expected[claim.id]
        assert await first(watch, lambda seen: not seen) == {}


async def test_a_block_that_moves_is_seen_with_its_new_owner(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool("default", "10.0.0.0/27"))
        (old,) = await store.claim_blocks(A, NAME, 1)
        watch = store.watch_claims()
        assert await anext(watch) == {old.id: old}
        await other.release_blocks([old])
        (new,) = await other.claim_blocks(B, NAME, 1)
        await first(watch, lambda seen: seen == {new.id: new})


async def test_a_watch_of_all_claims_goes_on_after_an_outage(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        watch = store.watch_claims()
        assert await anext(watch) == {}
        waiting = asyncio.ensure_future(anext(watch))
        rig.suspend()
        with pytest.raises(StoreUnavailable):
            await store.list_pools()
        rig.resume()
        claims = await other.claim_blocks(A, NAME, 3)
        seen = await waiting
        if len(seen) < 3:
            seen = await first(watch, lambda found: len(found) == 3)
        assert sorted(seen.values(), key=lambda claim: claim.id.index) == claims


async def test_a_watch_of_ranges_shows_what_a_list_does(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        watch = store.watch_ranges()
        assert await anext(watch) == {}
        await other.claim_blocks(A, NAME, 1, RackName("r1"))
        listed = {BlockId(NAME, f): rack for f, rack in (await store.list_ranges(NAME)).items()}
        if listed:  # a store for one machine gives none
            await first(watch, listed.__eq__)


async def test_a_watch_of_nodes_begins_with_none(rig: Rig) -> None:
    async with client(rig) as store:
        assert await first(store.watch_nodes(), lambda _: True) == {}


async def test_a_block_that_changed_hands_and_came_back_is_seen_as_changed(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool("default", "10.0.0.0/27"))
        (old,) = await store.claim_blocks(A, NAME, 1)
        watch = store.watch_node_blocks(A)
        assert await anext(watch) == [old]
        await other.release_blocks([old])
        (foreign,) = await other.claim_blocks(B, NAME, 1)
        await other.release_blocks([foreign])
        (new,) = await other.claim_blocks(A, NAME, 1)
        assert await first(watch, lambda claims: claims == [new]) != [old]


async def test_a_burst_of_changes_ends_in_the_last_state(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool("default", "10.0.0.0/16"))
        blocks, pools = store.watch_node_blocks(A), store.watch_pools()
        await anext(blocks)
        await anext(pools)
        for number in range(1, 30):
            await (store, other)[number % 2].claim_blocks(A, NAME, 1)
        final = await other.list_node_blocks(A)
        assert len(final) == 29
        await first(blocks, lambda claims: claims == final)
        last = await other.set_cordoned(NAME, cordoned=True)
        await first(pools, lambda found: found == [last])


async def test_one_watch_that_ends_leaves_the_others_alone(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        watches = [store.watch_pools() for _ in range(3)]
        for watch in watches:
            assert await anext(watch) == []
        waiting = asyncio.ensure_future(anext(watches[0]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await other.create_pool(pool())
        for watch in watches[1:]:
            assert await first(watch, bool) == [pool()]


# Outages


async def test_calls_fail_as_unavailable_during_an_outage_and_work_after_it(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1)
        rig.suspend()
        calls: list[Callable[[], Awaitable[object]]] = [
            store.identity,
            store.list_pools,
            lambda: store.get_pool(NAME),
            lambda: store.create_pool(pool("other", "10.1.0.0/24")),
            lambda: store.claim_blocks(A, NAME, 1),
            lambda: store.release_blocks([claim]),
            lambda: store.list_node_blocks(A),
            lambda: store.delete_pool(NAME),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable) as caught:
                await call()
            assert caught.value.transient
        rig.resume()
        assert NAME in {each.name for each in await store.list_pools()}


async def test_after_an_outage_the_list_of_a_node_tells_what_became_of_its_writes(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1)
        rig.suspend()
        for write in (store.release_blocks([claim]), store.claim_blocks(A, NAME, 2)):
            with pytest.raises(StoreUnavailable):
                await write
        rig.resume()
        # What was on its way may be done between two questions.
        while (mine := await store.list_node_blocks(A)) != await store.list_pool_blocks(NAME):
            await asyncio.sleep(0.01)
        assert set(await store.release_blocks([claim])) <= set(mine) & {claim}
        assert claim not in await store.list_node_blocks(A)


async def test_watches_go_on_after_an_outage(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await store.create_pool(pool())
        pools, blocks = store.watch_pools(), store.watch_node_blocks(A)
        assert await anext(pools) == [pool()]
        assert await anext(blocks) == []
        waiting = [asyncio.ensure_future(anext(pools)), asyncio.ensure_future(anext(blocks))]
        rig.suspend()
        # The watches are known to have met the outage when a write of this client was refused and
        # they still wait a while later.
        with pytest.raises(StoreUnavailable):
            await store.set_cordoned(NAME, cordoned=True)
        assert await asyncio.wait(waiting, timeout=1.5) == (set(), set(waiting))
        rig.resume()
        (claim,) = await other.claim_blocks(A, NAME, 1)
        cordoned = await other.set_cordoned(NAME, cordoned=True)
        seen_pools, seen_blocks = [await task for task in waiting]
        if seen_pools != [cordoned]:
            await first(pools, lambda found: found == [cordoned])
        if seen_blocks != [claim]:
            await first(blocks, lambda found: found == [claim])


async def test_a_watch_that_begins_in_an_outage_gives_its_first_item_after_it(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        await other.create_pool(pool())
        rig.suspend()
        waiting = asyncio.ensure_future(anext(store.watch_pools()))
        assert await asyncio.wait([waiting], timeout=0.5) == (set(), {waiting})
        rig.resume()
        assert await waiting == [pool()]


# Leadership

ROLE = "controller"


async def test_one_of_many_leads_and_goes_on_while_it_renews(rig: Rig) -> None:
    async with clients(rig, 5) as stores:
        loop = asyncio.get_running_loop()
        names = [f"p{number}" for number in range(5)]
        since = loop.time()
        told = await asyncio.gather(
            *(store.lead(ROLE, name, 4) for store, name in zip(stores, names, strict=True))
        )
        # On a machine that stands still for longer than 4 s anybody may lead by right.
        assert told.count(True) == 1 or loop.time() > since + 4
        leader = names[told.index(True)]
        for _ in range(5):  # longer than what was asked for at once
            await asyncio.sleep(1)
            for store, name in zip(stores, names, strict=True):
                asked = loop.time()
                leads = await store.lead(ROLE, name, 4)
                assert leads is (name == leader) or loop.time() > since + 4
                if leads:
                    leader, since = name, asked
            found = await stores[0].find_leader(ROLE)
            assert found == leader or loop.time() > since + 4
        assert await stores[0].lead("another role", "anybody", 2)


async def test_a_leader_that_does_not_renew_is_followed_but_not_before_its_time(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await store.lead(ROLE, "a", 2)
        while not await other.lead(ROLE, "b", 60):
            await asyncio.sleep(0.05)
        assert loop.time() - began >= 2
        assert not await store.lead(ROLE, "a", 2)
        assert await store.find_leader(ROLE) == "b"


async def test_who_resigns_is_followed_at_once_and_nobody_else_can_do_it_for_it(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        assert await store.find_leader(ROLE) is None
        assert await store.lead(ROLE, "a", 60)
        await other.resign(ROLE, "b")
        assert not await other.lead(ROLE, "b", 60)
        await store.resign(ROLE, "a")
        await store.resign(ROLE, "a")
        assert await store.find_leader(ROLE) is None
        assert await other.lead(ROLE, "b", 60)


async def test_nobody_begins_to_lead_in_an_outage(rig: Rig) -> None:
    async with client(rig) as store:
        rig.suspend()
        for call in (store.lead(ROLE, "a", 60), store.find_leader(ROLE), store.resign(ROLE, "a")):
            with pytest.raises(StoreUnavailable):
                await call
        rig.resume()
        for _ in range(50):
            with contextlib.suppress(StoreUnavailable):  # the connection comes back within a second
                assert await store.lead(ROLE, "a", 60)
                break
            await asyncio.sleep(0.1)
        assert await store.find_leader(ROLE) == "a"


# The controller's view


async def test_a_survey_shows_pools_and_claims_as_of_one_moment(rig: Rig) -> None:
    async with client(rig) as store:
        assert await store.survey() == Survey()
        one, two = pool(), pool("other", "10.1.0.0/24", bits=3)
        for each in (one, two):
            await store.create_pool(each)
        claims = await store.claim_blocks(A, NAME, 3) + await store.claim_blocks(B, OTHER, 2)
        seen = await store.survey()
        assert (seen.pools, seen.claims) == ((one, two), tuple(claims))
        assert (seen.hidden, seen.stale, seen.unreadable) == ((), (), ())


async def test_nothing_is_taken_from_a_node_that_never_had_a_record(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1)
        record = NodeRecord(A, Holder("m", "b", "p"), "1", None, (), 0)
        assert await store.take_block(claim, record) is Release.NOT_GONE
        assert not await store.take_name(record)
        assert await store.list_node_blocks(A) == [claim]


async def test_a_claim_that_is_in_order_needs_no_mending(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1)
        assert not await store.mend_claim(claim)
        assert await store.list_node_blocks(A) == [claim]
        await store.release_blocks([claim])
        assert not await store.mend_claim(claim)
        assert await store.list_node_blocks(A) == []


# Identity and end


async def test_the_identity_is_one_for_all_clients_and_stays(rig: Rig) -> None:
    async with clients(rig, 2) as (store, other):
        identity = await store.identity()
        assert identity
        assert await other.identity() == identity
    async with client(rig) as store:
        assert await store.identity() == identity


async def test_closing_twice_is_closing_once(rig: Rig) -> None:
    async with client(rig) as store:
        await store.create_pool(pool())
        await asyncio.gather(store.close(), store.close())
        await store.close()


async def test_watches_end_when_the_store_is_closed(rig: Rig) -> None:
    async with client(rig) as store:
        watches = [
            store.watch_pools(), store.watch_node_blocks(A), store.watch_claims(),
            store.watch_nodes(), store.watch_ranges(),
        ]  # fmt: skip
        for watch in watches:
            await anext(watch)
        waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
        await asyncio.sleep(0)
        await store.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StopAsyncIteration}


async def test_watches_end_when_the_store_is_closed_during_an_outage(rig: Rig) -> None:
    async with client(rig) as store:
        watches = [store.watch_pools(), store.watch_node_blocks(A), store.watch_claims()]
        await anext(watches[0])
        rig.suspend()
        waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
        with pytest.raises(StoreUnavailable):
            await store.list_pools()
        assert not any(each.done() for each in waiting)
        await store.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StopAsyncIteration}
