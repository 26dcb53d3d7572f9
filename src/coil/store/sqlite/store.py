"""The embedded store behind the contract.

All of SQLite runs in one thread of its own, so the loop never waits for a file. A claim is one
immediate transaction and one fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import structlog

from coil.domain.block import MAX_INDEX, BlockClaim, BlockId
from coil.domain.errors import PoolExists
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import NodeRecord, NodeStatus
from coil.domain.pool import Pool, Subnet
from coil.domain.survey import Survey
from coil.store.contract import Release
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.messages import out_of_blocks, pool_cordoned
from coil.store.sqlite import leaders
from coil.store.sqlite.changes import Watchers
from coil.store.sqlite.records import Records
from coil.store.sqlite.session import Session, Work
from coil.store.sqlite.worker import Worker

T = TypeVar("T")
_log = structlog.get_logger()

_BUSY_SECONDS = 5.0
"""How long a call waits for other processes; transactions take milliseconds, even with fsync."""
_RETRY_SECONDS = 0.5
"""Between attempts of a watch to read a store that fails."""


class SqliteStore:
    """See ``coil.store.contract.Store`` for what the methods promise.

    Not to be used in a process forked after it was made. Several may be open on one file.
    """

    conflicts = 0
    """See the contract: none, ever. A claim looks and takes in one transaction."""

    def __init__(self, path: Path, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        self.path = path
        self._session = Session(path, busy_seconds=busy_seconds)
        self._watchers = Watchers()
        self._worker = Worker(name="sqlite-store", at_end=self._session.close)
        self._closed = False

    @property
    def recovered_from(self) -> Path | None:
        """Where this process moved a damaged file to make room for a new store, if it did."""
        return self._session.recovered_from

    async def open(self) -> None:
        """Open and check the file, making it where there is none; a damaged one is kept aside.

        Raises ConfigError for a place that cannot hold a store, StoreCorrupt for a file that is
        another program's or a newer coil's. What may pass raises nothing here: the calls that
        follow try again, and say it.
        """
        with contextlib.suppress(StoreUnavailable):
            await self._run(self._session.open)

    async def close(self) -> None:
        """Close the file and end the thread; watches end. Idempotent."""
        self._closed = True
        self._watchers.wake()
        await asyncio.shield(asyncio.wrap_future(self._worker.stop()))

    async def identity(self) -> str:
        """See the contract."""
        return await self._read(Records.identity)

    async def create_pool(self, pool: Pool) -> None:
        """See the contract."""

        def work(records: Records) -> None:
            if records.has_pool(pool.name):
                raise PoolExists(f"pool {pool.name} exists already", pool=pool.name)
            records.insert_pool(pool)

        await self._write(work)

    async def add_subnet(self, name: PoolName, subnet: Subnet) -> Pool:
        """See the contract."""

        def work(records: Records) -> Pool:
            pool = records.get_pool(name).extended(subnet)
            records.update_pool(pool)
            return pool

        return await self._write(work)

    async def set_cordoned(self, name: PoolName, *, cordoned: bool) -> Pool:
        """See the contract."""

        def work(records: Records) -> Pool:
            before = records.get_pool(name)
            pool = replace(before, cordoned=cordoned)
            if pool != before:
                records.update_pool(pool)
            return pool

        return await self._write(work)

    async def delete_pool(self, name: PoolName) -> None:
        """See the contract. A pool whose record cannot be read can be deleted, too."""

        def work(records: Records) -> None:
            records.require_pool(name)
            records.delete_pool(name)

        await self._write(work)

    async def list_pools(self) -> Sequence[Pool]:
        """See the contract."""
        return await self._read(Records.list_pools)

    async def get_pool(self, name: PoolName) -> Pool:
        """See the contract."""
        return await self._read(lambda records: records.get_pool(name))

    def watch_pools(self) -> AsyncIterator[Sequence[Pool]]:
        """See the contract."""
        return self._watch(Records.list_pools)

    async def claim_blocks(
        self, node: NodeName, pool: PoolName, count: int, rack: RackName | None = None
    ) -> list[BlockClaim]:
        """See the contract. The lowest free indexes are given: one machine is in one rack."""
        del rack
        if count < 1:
            raise ValueError("count must be at least 1")

        def work(records: Records) -> list[BlockClaim]:
            found = records.get_pool(pool)
            if found.cordoned:
                raise pool_cordoned(pool)
            indexes = records.lowest_free(found, count)
            if not indexes:
                raise out_of_blocks(found)
            records.set_free_from(pool, indexes[-1] + 1)
            return records.insert_claims(node, pool, indexes)

        return await self._write(work)

    async def reclaim_blocks(
        self, node: NodeName, pool: PoolName, indexes: Sequence[int]
    ) -> list[BlockClaim]:
        """See the contract. Indexes above MAX_INDEX are never had."""

        def work(records: Records) -> list[BlockClaim]:
            found = records.get_pool(pool)
            wanted = sorted(set(indexes))
            for index in wanted:
                found.block(index)
            storable = [index for index in wanted if index <= MAX_INDEX]
            owners = {index: records.find_claim(pool, index) for index in storable}
            free = [index for index, owner in owners.items() if owner is None]
            mine = [owner for owner in owners.values() if owner and owner.node == node]
            had = [*mine, *records.insert_claims(node, pool, free)]
            return sorted(had, key=lambda claim: claim.id.index)

        return await self._write(work)

    async def release_blocks(self, claims: Sequence[BlockClaim]) -> list[BlockClaim]:
        """See the contract."""
        return await self._write(
            lambda records: [claim for claim in claims if records.delete_claim(claim)]
        )

    async def list_node_blocks(self, node: NodeName) -> list[BlockClaim]:
        """See the contract."""
        return await self._read(lambda records: records.node_claims(node))

    def watch_node_blocks(self, node: NodeName) -> AsyncIterator[list[BlockClaim]]:
        """See the contract."""
        return self._watch(lambda records: records.node_claims(node))

    def watch_claims(self) -> AsyncIterator[Mapping[BlockId, BlockClaim]]:
        """See the contract."""
        return self._watch(lambda records: {claim.id: claim for claim in records.all_claims()})

    async def list_pool_blocks(self, pool: PoolName) -> list[BlockClaim]:
        """See the contract."""

        def work(records: Records) -> list[BlockClaim]:
            records.require_pool(pool)
            return records.pool_claims(pool)

        return await self._read(work)

    async def list_ranges(self, pool: PoolName) -> dict[int, RackName]:
        """See the contract: none, ever."""
        await self._read(lambda records: records.require_pool(pool))
        return {}

    async def watch_ranges(self) -> AsyncIterator[Mapping[BlockId, RackName]]:
        """See the contract: none, ever."""
        async for _identity in self._watch(Records.identity):
            yield {}

    async def hold_name(self, record: NodeRecord, seconds: float) -> None:
        """See the contract: one machine has nobody to tell."""

    async def list_nodes(self) -> list[NodeStatus]:
        """See the contract: none, ever."""
        return []

    async def watch_nodes(self) -> AsyncIterator[Mapping[NodeName, NodeRecord]]:
        """See the contract: none, ever."""
        async for _identity in self._watch(Records.identity):
            yield {}

    async def find_node(self, name: NodeName) -> NodeStatus | None:
        """See the contract: None, ever."""

    async def forget_node(self, name: NodeName) -> None:
        """See the contract: there is none."""

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """See the contract."""
        return await self._write(lambda r: leaders.lead(r.connection, role, holder, seconds))

    async def resign(self, role: str, holder: str) -> None:
        """See the contract."""
        await self._write(lambda records: leaders.resign(records.connection, role, holder))

    async def find_leader(self, role: str) -> str | None:
        """See the contract."""
        return await self._write(lambda records: leaders.find_leader(records.connection, role))

    async def survey(self) -> Survey:
        """See the contract: pools and claims, there is nothing else."""
        return await self._read(Records.survey)

    async def take_block(self, claim: BlockClaim, record: NodeRecord) -> Release:
        """See the contract: nothing is ever taken."""
        del claim, record
        return Release.NOT_GONE

    async def take_name(self, record: NodeRecord) -> bool:
        """See the contract: nothing is ever taken."""
        del record
        return False

    async def mend_claim(self, claim: BlockClaim) -> bool:
        """See the contract: there are no copies."""
        del claim
        return False

    async def _watch(self, work: Work[T]) -> AsyncIterator[T]:
        """Yield what ``work`` reads now and whenever that, or the store itself, is another."""

        def with_identity(records: Records) -> tuple[str, T]:
            return records.identity(), work(records)

        seen: tuple[str, T] | None = None
        with self._watchers.watcher(self.path) as watcher:
            while not self._closed:
                watched = watcher.renew()
                state = await self._read_through(with_identity)
                if state is None:
                    return
                if not watched and watcher.renew():
                    continue  # the read has made what was missing
                if state != seen:
                    seen = state
                    yield state[1]
                await watcher.wait()

    async def _read_through(self, work: Work[T]) -> T | None:
        """Read, however long it takes until that works; an outage is told once.

        None when the store was closed meanwhile.
        """
        told = False
        while not self._closed:
            try:
                state = await self._run(lambda: self._session.read_settled(work))
            except StoreError as exc:
                if not told:
                    _log.warning("store cannot be watched; trying on", reason=exc.message)
                told = True
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if told:
                    _log.info("store is watched again", path=str(self.path))
                return state
        return None

    async def _read(self, work: Work[T]) -> T:
        return await self._run(lambda: self._session.read(work))

    async def _write(self, work: Work[T]) -> T:
        return await self._run(lambda: self._session.write(work))

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._worker.submit(job))
