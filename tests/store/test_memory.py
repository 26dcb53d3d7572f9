"""The engine in memory against etcd itself: the same requests, the same answers."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coil.domain.errors import ConfigError
from coil.lab.etcd import local_etcd
from coil.store.errors import StoreUnavailable
from coil.store.etcd.address import EtcdAddress
from coil.store.etcd.client import EtcdClient
from coil.store.etcd.engine import Engine
from coil.store.etcd.memory import MemoryClient, MemoryEtcd
from coil.store.etcd.store import EtcdStore
from coil.store.etcd.wire import (
    Compare,
    Found,
    KeyValue,
    Operation,
    Results,
    choice,
    count_between,
    delete,
    delete_below,
    exists,
    get,
    get_below,
    get_between,
    get_names,
    get_page,
    has_other_value,
    has_value,
    is_absent,
    is_unchanged,
    none_below,
    none_newer,
    put,
)
from store.rigs import EtcdRig

NAMES = "abcdef"


class Requests:
    """Random requests below a prefix; the same ones for the same seed."""

    def __init__(self, prefix: str, seed: int) -> None:
        self.prefix = prefix
        self._chance = random.Random(seed)
        self._unwritten: list[str] = []
        self.known: dict[str, int] = {}
        """At which revision keys were read last."""

    def key(self) -> str:
        return self.prefix + self._chance.choice(NAMES)

    def compare(self) -> Compare:
        key, value = self.key(), self._chance.choice([b"x", b"y"])
        pair = KeyValue(key, b"", self.known.get(key, 1), 0)
        below = self.prefix + self._chance.choice(["", "a", "e"])
        made = [
            is_absent(key), exists(key), none_below(below), has_value(key, value),
            has_other_value(key, value), is_unchanged(pair), none_newer(below, pair.revision),
        ]  # fmt: skip
        return self._chance.choice(made)

    def reading(self) -> Operation:
        begin, end = sorted([self.key(), self.key()])
        return self._chance.choice(
            [get(begin), get_below(self.prefix), count_between(begin, end), get_between(begin, end),
             get_names(self.prefix, end, limit=self._chance.randint(0, 3)),
             get_page(begin, self.prefix, 0, limit=2)]
        )  # fmt: skip

    def transaction(self) -> tuple[list[Compare], list[Operation], list[Operation]]:
        # etcd refuses to write a key twice in one transaction.
        self._unwritten = self._chance.sample(NAMES, len(NAMES))
        compare = [self.compare() for _ in range(self._chance.randint(0, 2))]
        return compare, self._operations(2), self._operations(2)

    def _operations(self, depth: int) -> list[Operation]:
        return [self._operation(depth) for _ in range(self._chance.randint(0, 3))]

    def _operation(self, depth: int) -> Operation:
        kind = self._chance.choice(["read", "write", "write", "choice"])
        if kind == "choice" and depth:
            inner = self._operations(depth - 1), self._operations(depth - 1)
            return choice([self.compare()], *inner)
        if kind == "write" and self._unwritten:
            key = self.prefix + self._unwritten.pop()
            if self._chance.random() < 0.3:
                return self._chance.choice([delete(key), delete_below(key)])
            return put(key, self._chance.choice([b"x", b"y"]))
        return self.reading()


def seen(results: Results, before: int) -> object:
    """All that an answer says, with revisions as steps since ``before``."""
    answer = results._answer
    return answer.succeeded, [_seen(each, before) for each in answer.responses]


def _seen(response: object, before: int) -> object:
    if response.HasField("response_txn"):
        return seen(Results(response.response_txn), before)
    return _pairs(response.response_range, before), response.response_delete_range.deleted


def _pairs(answer: object, before: int) -> object:
    return answer.count, answer.more, [
        (kv.key[-1:], kv.value, kv.version, kv.mod_revision - before, kv.create_revision - before)
        for kv in answer.kvs
    ]  # fmt: skip


def found(answer: Found, before: int) -> object:
    return [_pairs(each, before) for each in answer._answers]


@pytest.fixture
def prefixed() -> Iterator[EtcdRig]:
    """In an etcd of its own: leases of other tests that end would count as revisions."""
    folder = Path(tempfile.mkdtemp(prefix="coil-etcd-", dir="/dev/shm"))
    with local_etcd(folder) as (member,):
        yield EtcdRig(member)


@asynccontextmanager
async def engines(rig: EtcdRig) -> AsyncIterator[tuple[Engine, Engine]]:
    client = EtcdClient(EtcdAddress((rig.member.endpoint,), rig.prefix, timeout=30))
    try:
        yield client, MemoryClient(MemoryEtcd())
    finally:
        await client.close()


@pytest.mark.parametrize("seed", range(4))
async def test_random_requests_have_the_same_answers(prefixed: EtcdRig, seed: int) -> None:
    async with engines(prefixed) as both:
        starts = [(await engine.read(get(prefixed.prefix))).revision for engine in both]
        streams = [Requests(prefixed.prefix, seed) for _ in both]
        for _ in range(150):
            answers: list[object] = []
            for engine, stream, start in zip(both, streams, starts, strict=True):
                reads = [stream.reading() for _ in range(3)]
                state = await engine.read(get_below(prefixed.prefix), *reads)
                stream.known = {pair.key: pair.revision for pair in state.pairs(0)}
                transaction = stream.transaction()
                done = seen(await engine.write(*transaction), start)
                answers.append((found(state, start), state.revision - start, done))
            assert answers[0] == answers[1]


async def test_what_is_left_of_a_lease_is_the_same(prefixed: EtcdRig) -> None:
    async with engines(prefixed) as both:
        for engine in both:
            lease = await engine.grant(50)
            left, granted = await engine.time_left(lease)
            assert granted == 50
            assert 40 < left < 50  # rounded down
            await engine.revoke(lease)
            assert await engine.time_left(lease) == (-1, 0)


async def test_what_was_is_not_answered() -> None:
    client = MemoryClient(MemoryEtcd())
    await client.write([], [put("a", b"1")])
    revision = (await client.read(get("a"))).revision
    assert (await client.read(get_page("a", "a", revision, limit=1))).pairs(0)
    await client.write([], [put("b", b"1")])
    with pytest.raises(StoreUnavailable, match="compacted"):
        await client.read(get_page("a", "a", revision, limit=1))


class OldServer(MemoryClient):
    """As etcd 3.3 would answer, which no package here has."""

    async def server_version(self) -> str:
        return "3.3.27"


async def test_a_server_that_is_too_old_is_refused_and_gets_no_key() -> None:
    etcd = MemoryEtcd()
    before = etcd.keyspace.revision
    with pytest.raises(ConfigError, match=r"etcd 3\.3\.27; coil needs 3\.4 or newer"):
        await EtcdStore(OldServer(etcd)).identity()
    assert etcd.keyspace.revision == before
    await EtcdStore(MemoryClient(etcd)).identity()
    with pytest.raises(ConfigError, match=r"etcd 3\.3\.27"):  # the prefix is there by now
        await EtcdStore(OldServer(etcd)).identity()
