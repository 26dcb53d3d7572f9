"""Watches of everything in etcd: what they see, what they miss (nothing), what they cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import TypeVar

from coil.domain.block import BlockClaim
from coil.domain.names import NodeName, PoolName
from coil.domain.node import Holder, NodeRecord
from coil.domain.pool import Pool, parse_subnet
from coil.lab.etcd import EtcdMember
from coil.store.contract import Store
from coil.store.errors import StoreUnavailable
from coil.store.open import open_store
from store.rigs import EtcdRig, client, make_pool, metric, url_of

T = TypeVar("T")
A, B = NodeName("node-a"), NodeName("node-b")
NAME = PoolName("default")
SENT = "etcd_network_client_grpc_sent_bytes_total"


def pool(subnet: str = "10.0.0.0/16", bits: int = 4) -> Pool:
    return Pool(NAME, (parse_subnet(subnet),), bits)


def record_of(name: NodeName, *addresses: str, seen: int = 1) -> NodeRecord:
    holder = Holder("machine", "boot", f"place of {name}")
    return NodeRecord(name, holder, "1", None, tuple(map(ip_address, addresses)), seen)


async def until(watch: AsyncIterator[T], wanted: Callable[[T], bool]) -> T:
    async with asyncio.timeout(20):
        async for state in watch:
            if wanted(state):
                return state
    raise AssertionError("the watch ended")


async def test_a_watch_of_nodes_sees_records_come_change_and_go(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store, client(prefixed) as one, client(prefixed) as two:
        before, other = record_of(A, "192.0.2.1"), record_of(B, "192.0.2.2", "2001:db8::2")
        await one.hold_name(before, 60)
        watch = store.watch_nodes()
        assert await anext(watch) == {A: before}
        await two.hold_name(other, 60)
        assert await until(watch, lambda seen: len(seen) == 2) == {A: before, B: other}
        after = record_of(A, "192.0.2.9", seen=2)
        await one.hold_name(after, 60)
        await until(watch, lambda seen: seen == {A: after, B: other})
        await store.forget_node(A)
        await until(watch, lambda seen: seen == {B: other})


async def test_a_change_of_one_claim_costs_those_who_watch_all_no_look_at_all(
    prefixed: EtcdRig,
) -> None:
    async with client(prefixed) as store, client(prefixed) as other:
        await store.create_pool(pool("10.0.0.0/20", bits=0))
        await other.reclaim_blocks(B, NAME, range(1000))
        watch = store.watch_claims()
        assert len(await anext(watch)) == 1000
        before = metric(prefixed.member, SENT)
        for number in range(1000, 1010):
            await other.reclaim_blocks(A, NAME, [number])
            await until(watch, lambda seen, n=number: len(seen) == n + 1)
        # The whole is 100 kB, ten times; what is sent is the answers to the claims, and events.
        assert metric(prefixed.member, SENT) - before < 20_000


async def test_what_was_compacted_before_a_watch_asked_is_read_anew(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store, client(prefixed) as other:
        await store.create_pool(pool())
        (old,) = await other.claim_blocks(A, NAME, 1)
        watch = store.watch_claims()
        assert await anext(watch) == {old.id: old}
        # Nobody waits for the watch's next state now, so it comes too late for these.
        await other.release_blocks([old])
        (new,) = await other.claim_blocks(B, NAME, 1)
        status = prefixed.member.ctl("endpoint", "status", "-w", "fields").stdout
        found = re.search(r'"Revision" : (\d+)', status)
        assert found
        prefixed.member.ctl("compact", found.group(1))
        assert await anext(watch) == {new.id: new}
        await other.release_blocks([new])
        assert await anext(watch) == {}


async def test_a_watch_of_everything_misses_nothing_while_its_member_is_away(
    trio: list[EtcdMember],
) -> None:
    url = url_of(trio)
    store, other = await open_store(url), await open_store(url)
    try:
        await make_pool(other, pool())
        watch = store.watch_claims()
        expected = dict(await anext(watch))
        for member in trio:
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(member.kill)
            claim = await claim_one(other, NodeName(member.name))
            expected[claim.id] = claim
            seen = await waiting
            if claim.id not in seen:
                await until(watch, lambda found, wanted=claim.id: wanted in found)
            await asyncio.to_thread(revive, member, trio)
        assert {c.id for c in await other.list_pool_blocks(NAME)} >= set(expected)
    finally:
        await store.close()
        await other.close()


async def claim_one(store: Store, node: NodeName) -> BlockClaim:
    """Claim through an election: what the contract calls unknown is asked for."""
    async with asyncio.timeout(30):
        while True:
            try:
                return (await store.claim_blocks(node, NAME, 1))[0]
            except StoreUnavailable:
                continue


def revive(member: EtcdMember, members: list[EtcdMember]) -> None:
    member.start(members)
    member.wait_ready()
