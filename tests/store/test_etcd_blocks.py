"""What a claim costs etcd, where blocks come from, and that none is refused while one is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import pytest

from coil.domain.block import BlockClaim
from coil.domain.errors import OutOfBlocks, PoolCordoned, PoolNotFound
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.pool import Pool, parse_subnet
from coil.domain.ranges import range_of
from coil.lab.etcd import EtcdMember
from coil.store.contract import Store
from coil.store.etcd import EtcdStore
from coil.store.etcd.memory import MemoryClient, MemoryEtcd
from coil.store.etcd.wire import put, txn_request
from store.rigs import EtcdRig, client

A, B = NodeName("node-a"), NodeName("node-b")
R1, R2 = RackName("r1"), RackName("r2")
NAME = PoolName("default")


def pool(subnet: str = "10.0.0.0/16", bits: int = 4) -> Pool:
    return Pool(NAME, (parse_subnet(subnet),), bits)


@pytest.fixture
def prefixed(etcd: EtcdMember) -> EtcdRig:
    return EtcdRig(etcd)


@asynccontextmanager
async def told(store: Store, *, wanted: bool = True) -> AsyncIterator[None]:
    """A watch has told the store of the pools there are, and tells nothing more."""
    watch = store.watch_pools()
    if wanted:
        await anext(watch)
    yield
    await watch.aclose()


async def outside(store: Store, racks: dict[NodeName, RackName]) -> list[BlockClaim]:
    """Blocks that do not lie in a range of their owner's rack."""
    made, owners = await store.get_pool(NAME), await store.list_ranges(NAME)
    return [
        claim
        for claim in await store.list_pool_blocks(NAME)
        if owners.get(range_of(made, claim.id.index).first) != racks[claim.node]
    ]


# Racks


async def test_blocks_of_a_rack_are_together_and_apart_from_those_of_others(
    prefixed: EtcdRig,
) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool())
        racks = [RackName(f"r{number}") for number in range(5)]
        for number in range(40):
            rack = racks[number % 5]
            await store.claim_blocks(NodeName(f"n{number}"), NAME, 2, rack)
        owners = await store.list_ranges(NAME)
        made = await store.get_pool(NAME)
        for claim in await store.list_pool_blocks(NAME):
            rack = racks[int(claim.node[1:]) % 5]
            assert owners[range_of(made, claim.id.index).first] == rack


async def test_a_rack_takes_foreign_blocks_rather_than_none(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/25"))
        for number in count():
            rack = RackName(f"r{number % 3}")
            try:
                await store.claim_blocks(NodeName(f"n{number}"), NAME, 1, rack)
            except OutOfBlocks:
                break
        assert number == 8
        assert len(await store.list_pool_blocks(NAME)) == 8


@pytest.mark.parametrize("watched", [True, False])
async def test_nodes_without_a_rack_keep_out_of_the_ranges_of_racks(
    prefixed: EtcdRig, *, watched: bool
) -> None:
    async with client(prefixed) as store, client(prefixed) as other:
        made = pool("10.0.0.0/20")
        await other.create_pool(made)
        async with told(store, wanted=watched):
            for number in range(30):
                rack = RackName(f"r{number % 3}")
                await other.claim_blocks(NodeName(f"m{number}"), NAME, 2, rack)
                (claim,) = await store.claim_blocks(NodeName(f"n{number}"), NAME, 1)
                owners = await other.list_ranges(NAME)
                assert range_of(made, claim.id.index).first not in owners


@pytest.mark.parametrize("clients", [1, 4])
async def test_racks_that_grow_at_once_stay_in_ranges_of_their_own(
    prefixed: EtcdRig, clients: int
) -> None:
    racks = {NodeName(f"n{n}"): RackName(f"r{n % 4}") for n in range(80)}
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(client(prefixed)) for _ in range(clients)]
        await stores[0].create_pool(pool("10.0.0.0/20"))
        async with asyncio.TaskGroup() as group:
            for turn, (node, rack) in enumerate(racks.items()):
                group.create_task(stores[turn % clients].claim_blocks(node, NAME, 2, rack))
        assert len(await stores[0].list_pool_blocks(NAME)) == 160
        assert await outside(stores[0], racks) == []


@pytest.mark.parametrize("rack", [R1, None])
@pytest.mark.parametrize("watched", [True, False])
async def test_what_a_node_remembers_of_a_pool_is_never_relied_on(
    prefixed: EtcdRig, rack: RackName | None, *, watched: bool
) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(client(prefixed))
        operator = await stack.enter_async_context(client(prefixed))
        await operator.create_pool(pool("10.0.0.0/26"))
        await stack.enter_async_context(told(store, wanted=watched))
        await store.claim_blocks(A, NAME, 1, rack)
        await operator.set_cordoned(NAME, cordoned=True)
        with pytest.raises(PoolCordoned):
            await store.claim_blocks(A, NAME, 1, rack)
        await operator.set_cordoned(NAME, cordoned=False)
        assert len(await store.claim_blocks(A, NAME, 9, rack)) == 3
        with pytest.raises(OutOfBlocks):
            await store.claim_blocks(A, NAME, 1, rack)
        await operator.add_subnet(NAME, parse_subnet("10.1.0.0/26"))
        assert len(await store.claim_blocks(A, NAME, 4, rack)) == 4
        for claim in await operator.list_pool_blocks(NAME):
            assert await operator.release_blocks([claim]) == [claim]
        await operator.delete_pool(NAME)
        with pytest.raises(PoolNotFound):
            await store.claim_blocks(A, NAME, 1, rack)
        await operator.create_pool(pool("10.7.0.0/26"))
        await operator.claim_blocks(B, NAME, 1, R2)
        (mine,) = await store.claim_blocks(A, NAME, 1, rack)
        owners = await store.list_ranges(NAME)
        assert owners.get(mine.id.index) == rack


async def test_a_full_pool_that_was_extended_since_it_was_told_gives_a_block(
    prefixed: EtcdRig,
) -> None:
    async with client(prefixed) as store, client(prefixed) as operator:
        await operator.create_pool(pool("10.0.0.0/26"))
        async with told(store):
            await operator.claim_blocks(B, NAME, 4)
            await operator.add_subnet(NAME, parse_subnet("10.1.0.0/26"))
            assert len(await store.claim_blocks(A, NAME, 4)) == 4


# Costs


@pytest.mark.parametrize(("rack", "most"), [(None, 1.05), (R1, 2.2)])
async def test_claims_are_one_transaction_each_and_reading_is_none(
    prefixed: EtcdRig, rack: RackName | None, most: float
) -> None:
    """Of a rack each node that comes before the rack has a range tries to take it one."""
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/12", bits=5))
        before = prefixed.member.calls("Txn")
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(store.claim_blocks(NodeName(f"n{number}"), NAME, 1, rack))
        await store.list_node_blocks(NodeName("n5"))
        await store.list_nodes()
        await store.list_pools()
        used = prefixed.member.calls("Txn") - before
        assert len(await store.list_pool_blocks(NAME)) == 50
        assert used <= 50 * most


@pytest.mark.parametrize(("rack", "reads"), [(R1, 10), (None, 0)])
async def test_a_claim_is_one_transaction_and_of_a_rack_one_read(
    prefixed: EtcdRig, rack: RackName | None, reads: int
) -> None:
    """Of a node without a rack from the first one on, where a watch has told it of the pool."""
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/12", bits=5))
        if rack:
            for number in range(40):
                await store.claim_blocks(NodeName(f"n{number}"), NAME, 2, rack)
        async with told(store):
            before = [prefixed.member.calls(method) for method in ("Range", "Txn")]
            for number in range(10):
                await store.claim_blocks(NodeName(f"n{number}"), NAME, 1, rack)
            after = [prefixed.member.calls(method) for method in ("Range", "Txn")]
        assert [b - a for a, b in zip(before, after, strict=True)] == [reads, 10]


async def test_where_most_is_taken_a_node_looks_before_it_claims(prefixed: EtcdRig) -> None:
    """After one claim that brought nothing, which is no conflict: nobody had said it was free."""
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/22", bits=0))
        for begin in range(0, 1000, 500):
            await store.reclaim_blocks(B, NAME, range(begin, begin + 500))
        async with told(store):
            before = prefixed.member.calls("Txn")
            had = [await store.claim_blocks(A, NAME, 1) for _ in range(10)]
            assert prefixed.member.calls("Txn") - before <= 11
        assert {claim.id.index for (claim,) in had} <= set(range(1000, 1024))
        assert store.conflicts == 0


async def test_blocks_given_back_together_are_one_transaction(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/12", bits=5))
        claims = await store.claim_blocks(A, NAME, 16)
        before = prefixed.member.calls("Txn")
        assert await store.release_blocks(claims) == claims
        assert prefixed.member.calls("Txn") - before == 1
        assert await store.list_node_blocks(A) == []


async def test_a_refusal_of_a_full_pool_is_not_paid_for_by_reading_it_again(
    prefixed: EtcdRig,
) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/20", bits=0))
        for begin in range(0, 4096, 1024):
            await store.reclaim_blocks(B, NAME, range(begin, begin + 1024))
        costs = []
        for _ in range(4):
            before = prefixed.member.calls("Range")
            with pytest.raises(OutOfBlocks):
                await store.claim_blocks(A, NAME, 1)
            costs.append(prefixed.member.calls("Range") - before)
        assert max(costs[1:]) + 4096 // 1000 < costs[0]  # the first one has read all keys


# To the last block


async def test_a_nearly_full_pool_gives_its_last_blocks(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool("10.0.0.0/20", bits=0))
        taken = [index for index in range(4096) if index not in {7, 3000}]
        for begin in range(0, len(taken), 1000):
            await store.reclaim_blocks(B, NAME, taken[begin : begin + 1000])
        had = await store.claim_blocks(A, NAME, 5)
        assert [claim.id.index for claim in had] == [7, 3000]
        with pytest.raises(OutOfBlocks):
            await store.claim_blocks(A, NAME, 1)


async def test_foreign_keys_by_the_thousand_hide_no_free_block() -> None:
    etcd = MemoryEtcd()
    store = EtcdStore(MemoryClient(etcd))
    await store.create_pool(pool("10.0.0.0/26", bits=0))
    await store.reclaim_blocks(B, NAME, [index for index in range(64) if index not in {5, 60}])
    names = [f"/coil/blocks/default/{2:019}/{number:04}" for number in range(2500)]
    etcd.write(txn_request([], [put(name, b"?") for name in names], []))
    had = await store.claim_blocks(A, NAME, 2)
    assert [claim.id.index for claim in had] == [5, 60]
    with pytest.raises(OutOfBlocks):
        await store.claim_blocks(A, NAME, 1)


async def test_as_many_foreign_keys_as_free_blocks_hide_none() -> None:
    etcd = MemoryEtcd()
    store = EtcdStore(MemoryClient(etcd))
    await store.create_pool(pool("10.0.0.0/26", bits=0))
    with_all = await store.reclaim_blocks(B, NAME, range(64))
    with pytest.raises(OutOfBlocks):
        await store.claim_blocks(A, NAME, 1)
    names = [f"/coil/blocks/default/{2:019}/{number}" for number in range(3)]
    etcd.write(txn_request([], [put(name, b"?") for name in names], []))
    with pytest.raises(OutOfBlocks):
        await store.claim_blocks(A, NAME, 1)
    for _ in range(2):
        freed = with_all[5], with_all[6], with_all[60]
        assert len(await store.release_blocks(freed)) == 3
        had = await store.claim_blocks(A, NAME, 4)
        assert [claim.id for claim in had] == [claim.id for claim in freed]
        with pytest.raises(OutOfBlocks):
            await store.claim_blocks(A, NAME, 1)
        with_all[5], with_all[6], with_all[60] = had
