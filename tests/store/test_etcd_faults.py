"""What is wrong in etcd or on the way to it: told in a sentence, and felt by nobody else."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from coil.domain.errors import NodeNameInDoubt, NodeNameTaken
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import Holder, NodeRecord, NodeStatus
from coil.domain.pool import Pool, parse_subnet
from coil.lab.etcd import EtcdMember
from coil.store.contract import Store
from coil.store.errors import StoreCorrupt, StoreUnavailable
from coil.store.etcd.memory import MemoryClient, MemoryEtcd
from coil.store.etcd.store import EtcdStore
from coil.store.open import open_store
from store.rigs import EtcdRig, client

A, B = NodeName("node-a"), NodeName("node-b")
NAME, OTHER = PoolName("default"), PoolName("other")
RACK = RackName("r1")
ADVICE = "put back its value, or delete the key"


def pool(subnet: str = "10.0.0.0/16", bits: int = 4, name: PoolName = NAME) -> Pool:
    return Pool(name, (parse_subnet(subnet),), bits)


def record(name: NodeName = A) -> NodeRecord:
    return NodeRecord(name, Holder("machine", "boot", f"place of {name}"), "1", None, (), 0)


def put(rig: EtcdRig, key: str, value: str) -> None:
    rig.member.ctl("put", rig.prefix + key, value)


def keys(rig: EtcdRig) -> set[str]:
    listed = rig.member.ctl("get", "--prefix", rig.prefix, "--keys-only").stdout
    return {line.removeprefix(rig.prefix) for line in listed.split("\n") if line}


def told(logs: list[Any], key: str) -> list[str]:
    """What the log says of a key, with what to do."""
    return [each["reason"] for each in logs if key in each["reason"] and ADVICE in each["reason"]]


# Keys that cannot be read


BAD_POOLS = [
    ("other", "not json"),
    ("other", '{"subnets": []}'),
    ("other", "\udcff"),
    ("other", '{"subnets": ["10.0.0.1/8"], "block_size": 4, "cool_down": 0, "cordoned": false}'),
    ("No_Name", '{"subnets": ["10.1.0.0/24"]}'),
    ("a/b", "{}"),
]


@pytest.mark.parametrize(("name", "value"), BAD_POOLS)
async def test_a_bad_pool_stops_nothing_but_what_needs_it(
    prefixed: EtcdRig, name: str, value: str
) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool())
        watch = store.watch_pools()
        assert await anext(watch) == [pool()]
        put(prefixed, f"pools/{name}", value)
        with capture_logs() as logs:
            assert await store.list_pools() == await store.list_pools() == [pool()]
        assert len(told(logs, f"pools/{name}")) == 1
        cordoned = await store.set_cordoned(NAME, cordoned=True)
        assert await anext(watch) == [cordoned]
        await store.set_cordoned(NAME, cordoned=False)
        (claim,) = await store.claim_blocks(A, NAME, 1)
        assert await store.list_node_blocks(A) == [claim]
        # Whether it overlaps cannot be known: nothing is made, and it is said why.
        for call in (
            store.create_pool(pool("10.9.0.0/24", name=PoolName("new"))),
            store.add_subnet(NAME, parse_subnet("10.9.0.0/24")),
        ):
            with pytest.raises(StoreCorrupt, match=re.escape(f"pools/{name}")):
                await call
        assert not {key for key in keys(prefixed) if "new" in key}


async def test_a_bad_pool_is_named_by_who_needs_it_and_can_be_deleted(prefixed: EtcdRig) -> None:
    put(prefixed, "pools/other", "?")
    async with client(prefixed) as store:
        for call in (
            store.get_pool(OTHER),
            store.claim_blocks(A, OTHER, 1),
            store.set_cordoned(OTHER, cordoned=True),
        ):
            with pytest.raises(StoreCorrupt, match=r"pools/other.*etcdctl del"):
                await call
        await store.delete_pool(OTHER)
        assert keys(prefixed) == set()


@asynccontextmanager
async def settled(rig: EtcdRig) -> AsyncIterator[Store]:
    """Two nodes with two blocks each."""
    async with client(rig) as store:
        await store.create_pool(pool("10.0.0.0/24"))
        await store.reclaim_blocks(A, NAME, [1, 2])
        await store.reclaim_blocks(B, NAME, [3, 4])
        yield store


@pytest.mark.parametrize("value", ["?", "{}", '{"node": "No_Name", "revision": 1}', "[" * 2000])
async def test_a_bad_claim_of_another_stops_no_node(prefixed: EtcdRig, value: str) -> None:
    async with settled(prefixed) as store:
        watch = store.watch_claims()
        before = await anext(watch)
        put(prefixed, "blocks/default/0000000000000000003", value)
        assert (await anext(watch)).keys() == before.keys() - {c for c in before if c.index == 3}
        assert [claim.id.index for claim in await store.list_node_blocks(A)] == [1, 2]
        had = await store.claim_blocks(A, NAME, 12)
        assert 3 not in {claim.id.index for claim in had}
        assert len(had) == 12
        with capture_logs() as logs:
            listed = await store.list_pool_blocks(NAME)
        assert {claim.id.index for claim in listed} == set(range(16)) - {3}
        assert not logs  # the watch has told it
        for claim in had:
            await store.release_blocks([claim])


async def test_a_node_keeps_a_block_whose_claim_or_copy_cannot_be_read(prefixed: EtcdRig) -> None:
    async with settled(prefixed) as store:
        claims = await store.list_node_blocks(A)
        for key in ("blocks/default/0000000000000000001", f"owned/{A}/default/0000000000000000002"):
            put(prefixed, key, "?")
            with capture_logs() as logs:
                assert await store.list_node_blocks(A) == claims
            assert bool(told(logs, key)) == key.startswith("blocks/")
        assert await store.claim_blocks(A, NAME, 1)
        put(prefixed, f"owned/{A}/default/0000000000000000001", "?")
        with pytest.raises(StoreCorrupt, match="0000000000000000001"):
            await store.list_node_blocks(A)


@pytest.mark.parametrize(
    "key",
    [
        "blocks/default/zzz",
        "blocks/default/0000000000000000000x",
        "blocks/default/12",
        "blocks/other/0000000000000000001",
        "blocks/a/default/0000000000000000001",
        f"owned/{A}/default/12",
        f"owned/{A}/0000000000000000001",
        "ranges/default/zero",
        "ranges/default/9999999999999999999",
        "ranges/default/0000000000000000016",
        "nodes/No_Name",
        "alive/node-b",
        "something/else",
    ],
)
async def test_a_foreign_key_stops_nothing(prefixed: EtcdRig, key: str) -> None:
    async with settled(prefixed) as store:
        before = await store.list_node_blocks(A)
        put(prefixed, key, '{"rack": "r1"}')
        await store.hold_name(record(), 60)
        assert await store.list_node_blocks(A) == before
        assert len(await store.claim_blocks(A, NAME, 6, RACK)) == 6
        assert len(await store.claim_blocks(B, NAME, 6)) == 6
        assert len(await store.list_pool_blocks(NAME)) == 16
        assert [found.record.name for found in await store.list_nodes()] == [A]
        assert key in keys(prefixed)


@pytest.mark.parametrize("value", ["?", '{"rack": "no/rack"}', "[]"])
async def test_a_bad_range_belongs_to_nobody_and_stops_no_rack(
    prefixed: EtcdRig, value: str
) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool())
        await store.claim_blocks(A, NAME, 1, RACK)
        (first,) = await store.list_ranges(NAME)
        key = f"ranges/default/{first ^ 16:019}"
        put(prefixed, key, value)
        with capture_logs() as logs:
            had = await store.claim_blocks(A, NAME, 16, RACK)
        assert told(logs, key)
        assert len(had) == 16
        owners = await store.list_ranges(NAME)
        assert first ^ 16 not in owners
        assert set(owners.values()) == {RACK}


# Names


async def test_a_bad_record_of_a_node_hides_no_other_and_is_named(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store, client(prefixed) as node:
        await node.hold_name(record(B), 60)
        put(prefixed, f"nodes/{A}", "?")
        with capture_logs() as logs:
            assert [found.record.name for found in await store.list_nodes()] == [B]
            watch = store.watch_nodes()
            assert await anext(watch) == {B: record(B)}
        assert told(logs, f"nodes/{A}")
        for call in (store.find_node(A), store.hold_name(record(A), 60)):
            with pytest.raises(StoreCorrupt, match=rf"nodes/{A}.*etcdctl del"):
                await call
        await store.forget_node(A)
        await store.hold_name(record(A), 60)


async def test_a_node_that_lives_mends_its_own_record(prefixed: EtcdRig) -> None:
    async with client(prefixed) as node:
        await node.hold_name(record(), 60)
        put(prefixed, f"nodes/{A}", "?")
        after = replace(record(), version="2")
        await node.hold_name(after, 60)
        assert [found.record for found in await node.list_nodes()] == [after]


async def test_a_bad_sign_of_life_is_named(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        put(prefixed, f"alive/{A}", "?")
        with pytest.raises(StoreCorrupt, match=rf"alive/{A}.*etcdctl del"):
            await store.hold_name(record(), 60)
        assert f"nodes/{A}" not in keys(prefixed)


async def test_a_name_of_another_machine_is_refused_and_nothing_is_written(
    prefixed: EtcdRig,
) -> None:
    async with client(prefixed) as store, client(prefixed) as other:
        await store.hold_name(record(), 60)
        stranger = replace(record(), holder=Holder("another", "boot", "place"), version="9")
        with pytest.raises(NodeNameTaken, match=r"another machine.*--node-name.*node release"):
            await other.hold_name(stranger, 60)
        found = await store.find_node(A)
        assert found
        assert found.record == record()


@asynccontextmanager
async def held_by_last_boot() -> AsyncIterator[tuple[Callable[[float], None], Store, Store]]:
    """A clock to turn, who holds the name for 90 s from now, and one of the next boot."""
    now = 0.0

    def turn(to: float) -> None:
        nonlocal now
        now = to

    etcd = MemoryEtcd(lambda: now)
    last, following = EtcdStore(MemoryClient(etcd)), EtcdStore(MemoryClient(etcd))
    await last.hold_name(record(), 90)
    yield turn, last, following


NEXT = replace(record(), holder=Holder("machine", "next boot", "place"))


async def test_the_next_boot_waits_until_the_last_one_does_not_renew_its_lease() -> None:
    async with held_by_last_boot() as (turn, last, following):
        for now, left in ((0, 37), (10, 27), (35.9, 1)):
            turn(now)
            with pytest.raises(NodeNameInDoubt, match=r"machine-id.*--node-name") as doubt:
                await following.hold_name(NEXT, 90)
            assert doubt.value.seconds == pytest.approx(left, abs=1)
        turn(30)
        await last.hold_name(record(), 90)
        turn(37)
        with pytest.raises(NodeNameInDoubt):
            await following.hold_name(NEXT, 90)
        assert await last.find_node(A) == NodeStatus(record(), alive=True)
        turn(67)
        await following.hold_name(NEXT, 90)
        assert await last.find_node(A) == NodeStatus(NEXT, alive=True)


async def test_who_has_had_a_name_takes_it_back_from_no_other_boot() -> None:
    """Its own boot has not ended, so the other one is another machine's."""
    async with held_by_last_boot() as (turn, last, following):
        turn(37)
        await following.hold_name(NEXT, 90)
        for now in (38, 80, 200):  # the lease of the other has ended at last
            turn(now)
            with pytest.raises(NodeNameTaken, match="same /etc/machine-id"):
                await last.hold_name(record(), 90)
        await last.forget_node(A)
        await last.hold_name(record(), 90)
        assert await last.find_node(A) == NodeStatus(record(), alive=True)


# Other stores, other servers


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('{"format": 99, "identity": "x"}', "format 99.*another prefix"),
        ("[]", "identity.*etcdctl del"),
        ("?", "identity.*etcdctl del"),
    ],
)
async def test_a_prefix_of_another_format_is_refused(
    prefixed: EtcdRig, value: str, says: str
) -> None:
    put(prefixed, "identity", value)
    async with client(prefixed) as store:
        with pytest.raises(StoreCorrupt, match=says):
            await store.identity()
    assert keys(prefixed) == {"identity"}


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def _rude(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    writer.close()


@pytest.mark.parametrize("serve", [_web, _rude], ids=["a web server", "an SSH server"])
async def test_what_is_not_etcd_is_told(serve: Serve) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = await open_store(f"etcd://127.0.0.1:{port}")
    try:
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}.*not etcd"):
            await store.list_pools()
    finally:
        await store.close()
        server.close()
        await server.wait_closed()


async def test_a_port_that_says_nothing_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        store = await open_store(f"etcd://127.0.0.1:{port}?timeout=1")
        try:
            with pytest.raises(StoreUnavailable, match=f"{port}.*did not answer in time"):
                await store.list_pools()
        finally:
            await store.close()


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("127.0.0.1:1", "nothing listens there"),
        ("no-such-host.invalid:2379", "cannot be resolved"),
    ],
)
async def test_a_wrong_endpoint_is_told(endpoint: str, says: str) -> None:
    store = await open_store(f"etcd://{endpoint}?timeout=30")
    try:
        with pytest.raises(StoreUnavailable, match=f"{endpoint}.*{says}"):
            await store.list_pools()
    finally:
        await store.close()


async def test_a_name_that_resolves_to_several_addresses_is_an_endpoint(etcd: EtcdMember) -> None:
    # localhost is 127.0.0.1 and, on most machines, ::1, where this etcd does not listen.
    store = await open_store(f"etcd://localhost:{etcd.client_port}/x-localhost?timeout=30")
    try:
        await store.create_pool(pool())
        assert await store.get_pool(NAME) == pool()
        await store.delete_pool(NAME)
    finally:
        await store.close()
