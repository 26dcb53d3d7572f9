"""The connection to etcd: what its end does to calls, and what it leaves behind (nothing)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coil.domain.names import NodeName, PoolName
from coil.domain.pool import Pool, parse_subnet
from coil.lab.etcd import EtcdMember, free_ports
from coil.store.errors import StoreUnavailable
from coil.store.etcd.address import EtcdAddress
from coil.store.etcd.client import EtcdClient
from coil.store.etcd.wire import get, get_below, put
from coil.store.open import open_store
from store.rigs import EtcdRig, client

A = NodeName("node-a")
NAME = PoolName("default")
NEVER_SECONDS = 50.0


@pytest.fixture(autouse=True)
def _log_is_quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No library has a word to say, nor Python of what was left behind."""
    yield
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in records if record.levelname != "DEBUG"] == []


@pytest.fixture
def patient(etcd: EtcdMember) -> Iterator[EtcdClient]:
    """A client that takes no silence for an outage, of an etcd that is resumed afterwards."""
    prefix = f"/test-{secrets.token_hex(6)}/"
    yield EtcdClient(EtcdAddress((etcd.endpoint,), prefix, timeout=NEVER_SECONDS))
    etcd.resume()


def others() -> set[asyncio.Task[object]]:
    """Tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def idle() -> None:
    """Until no task is left but the test's own, and the one that watches over its time."""
    async with asyncio.timeout(5):
        while len(others()) > 1:
            await asyncio.sleep(0.01)


async def test_a_cancelled_call_is_a_cancellation_and_leaves_nothing(
    etcd: EtcdMember, patient: EtcdClient
) -> None:
    await patient.read(get("x"))
    etcd.suspend()
    for call in (patient.read(get("x")), patient.write([], [put("x", b"")])):
        task = asyncio.create_task(call)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await idle()
    await patient.close()


async def test_closing_fails_calls_in_flight_at_once_and_ends_watches(
    etcd: EtcdMember, patient: EtcdClient
) -> None:
    revision = (await patient.read(get("x"))).revision
    watch = patient.changes(patient.address.prefix, revision + 1)
    waiting = asyncio.create_task(anext(watch, None))
    etcd.suspend()
    reading = asyncio.create_task(patient.read(get("x")))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await patient.close()
        assert await waiting is None
        with pytest.raises(StoreUnavailable):
            await reading
    await idle()


async def test_closing_fails_calls_that_wait_for_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        store = EtcdClient(EtcdAddress((endpoint,), "/x/", timeout=NEVER_SECONDS))
        calls = [asyncio.create_task(store.read(get("x"))) for _ in range(3)]
        accepted, _peer = await asyncio.to_thread(silent.accept)
        with accepted:
            async with asyncio.timeout(5):
                await store.close()
                for call in calls:
                    with pytest.raises(StoreUnavailable):
                        await call
            await idle()


async def test_a_lost_connection_is_no_cancellation_of_whoever_called(tmp_path: Path) -> None:
    member = EtcdMember("m", "127.0.0.1", tmp_path / "m", None, *free_ports(2))
    try:
        member.start([member])
        await asyncio.to_thread(member.wait_ready)
        store = EtcdClient(EtcdAddress((member.endpoint,), "/x/", timeout=NEVER_SECONDS))
        await store.read(get("x"))
        member.suspend()
        writing = asyncio.create_task(count_cancellations(store))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(member.kill)
        assert await writing == 0
        with pytest.raises(StoreUnavailable, match="nothing listens"):
            await store.read(get("x"))
        member.start([member])
        await asyncio.to_thread(member.wait_ready)
        await store.read(get("x"))
        await store.close()
    finally:
        member.stop()


async def count_cancellations(store: EtcdClient) -> int:
    """A write that loses its connection; what of that the task it ran in keeps."""
    with pytest.raises(StoreUnavailable, match="connection was lost"):
        await store.write([], [put("x", b"")])
    task = asyncio.current_task()
    assert task
    return task.cancelling()


async def test_many_calls_at_once_all_leave_an_endpoint_that_is_dead(etcd: EtcdMember) -> None:
    dead = [f"127.0.0.1:{port}" for port in free_ports(2)]
    prefix = f"/test-{secrets.token_hex(6)}/"
    address = EtcdAddress((*dead, etcd.endpoint), prefix, timeout=NEVER_SECONDS)
    store = EtcdClient(address)
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(store.write([], [put(f"{address.prefix}{number}", b"")]))
    assert len((await store.read(get_below(address.prefix))).pairs(0)) == 200
    await store.close()


async def test_who_says_nothing_costs_a_write_its_share_of_the_time(etcd: EtcdMember) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},{etcd.endpoint}"
        store = await open_store(f"etcd://{hosts}/test-{secrets.token_hex(6)}?timeout=30")
        await store.create_pool(Pool(NAME, (parse_subnet("10.0.0.0/16"),), 4))
        assert await store.claim_blocks(A, NAME, 1)
        await store.close()


async def test_a_connection_that_is_not_answered_is_tried_again(etcd: EtcdMember) -> None:
    kept = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)
        if len(kept) == 1:
            return  # as who is slow: it is open, and nothing is said
        behind, ahead = await asyncio.open_connection("127.0.0.1", etcd.client_port)
        kept.append(ahead)
        await asyncio.gather(carry(reader, ahead), carry(behind, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = await open_store(f"etcd://127.0.0.1:{port}/test-{secrets.token_hex(6)}?timeout=30")
    await store.create_pool(Pool(NAME, (parse_subnet("10.0.0.0/16"),), 4))
    assert [each.name for each in await store.list_pools()] == [NAME]
    await store.close()
    for writer in kept:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What one side says is said to the other."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


async def test_answers_may_be_larger_than_any_window(patient: EtcdClient) -> None:
    prefix, value = patient.address.prefix, bytes(1_000_000)
    for number in range(12):
        await patient.write([], [put(f"{prefix}{number:02}", value)])
    found = (await patient.read(get_below(prefix))).pairs(0)
    assert [len(pair.value) for pair in found] == [len(value)] * 12
    await patient.close()


async def test_a_watch_that_nobody_reads_keeps_no_call_from_its_answer(
    prefixed: EtcdRig, patient: EtcdClient
) -> None:
    prefix, value = patient.address.prefix, bytes(1_000_000)
    revision = (await patient.read(get("x"))).revision
    watch = patient.changes(prefix, revision + 1)
    await patient.write([], [put(prefix, b"first")])
    first = await anext(watch)
    for _ in range(12):
        await patient.write([], [put(prefix, value)])
    async with client(prefixed) as store:
        assert await store.list_pools() == []
    assert len((await patient.read(get_below(prefix))).pairs(0)) == 1
    seen = first.revision
    while seen < revision + 13:
        seen = (await anext(watch)).revision
    await watch.aclose()
    await patient.close()


async def test_an_ipv6_address_is_an_endpoint(tmp_path: Path) -> None:
    member = EtcdMember("m", "::1", tmp_path / "m", None, *free_ports(2))
    try:
        member.start([member])
        await asyncio.to_thread(member.wait_ready)
        store = await open_store(f"etcd://{member.endpoint}")
        assert await store.list_pools() == []
        await store.close()
    finally:
        member.stop()
