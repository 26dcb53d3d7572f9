"""The embedded store: one SQLite file in WAL mode, shared by the processes of one machine.

All of SQLite runs in one thread of its own, so the loop never waits for a file. A claim is one
immediate transaction. Watches poll ``PRAGMA data_version``, which costs microseconds.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from coil.domain.block import BlockClaim, BlockId
from coil.domain.codec import pool_from_json, pool_to_json
from coil.domain.errors import (
    CoilError,
    OutOfBlocks,
    PoolCordoned,
    PoolExists,
    PoolInUse,
    PoolNotFound,
)
from coil.domain.names import NodeName, PoolName, parse_node_name, parse_pool_name
from coil.domain.pool import Pool, Subnet, check_overlap
from coil.store import sqlite_file
from coil.store.contract import Release
from coil.store.errors import StoreCorrupt, StoreError, StoreUnavailable

T = TypeVar("T")
_POLL_SECONDS = 0.25
"""Between looks for changes of other processes: well below the second an operator notices, and
under 0.02 % of a core."""
_SHOWN_NODES = 3


class SqliteStore:
    """See ``coil.store.contract.Store`` for what the methods promise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recovered_from: Path | None = None
        """Where a database that could not be read was moved by this process, if so."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite-store")
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._closed = False

    async def open(self) -> None:
        """Open or make the file. Raises ConfigError, StoreUnavailable."""
        await self._run(lambda _connection: None)

    async def close(self) -> None:
        """See contract."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._disconnect)
        self._executor.shutdown(wait=False)

    async def identity(self) -> str:
        """See contract."""
        return await self._run(
            lambda c: str(c.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()[0])
        )

    async def create_pool(self, pool: Pool) -> None:
        """See contract."""

        def work(connection: sqlite3.Connection) -> None:
            if _find_pool(connection, pool.name):
                raise PoolExists(f"pool {pool.name} exists already", pool=pool.name)
            _check_apart(connection, pool)
            connection.execute("INSERT INTO pools VALUES (?, ?)", (pool.name, pool_to_json(pool)))

        await self._run(work)

    async def add_subnet(self, name: PoolName, subnet: Subnet) -> Pool:
        """See contract."""

        def work(connection: sqlite3.Connection) -> Pool:
            pool = _get_pool(connection, name).extended(subnet)
            _check_apart(connection, pool)
            return _put_pool(connection, pool)

        return await self._run(work)

    async def set_cordoned(self, name: PoolName, *, cordoned: bool) -> Pool:
        """See contract."""

        def work(connection: sqlite3.Connection) -> Pool:
            pool = _get_pool(connection, name)
            if pool.cordoned == cordoned:
                return pool
            return _put_pool(connection, replace(pool, cordoned=cordoned))

        return await self._run(work)

    async def delete_pool(self, name: PoolName) -> None:
        """See contract."""

        def work(connection: sqlite3.Connection) -> None:
            _get_pool(connection, name)
            owners = connection.execute(
                "SELECT node, count(*) FROM blocks WHERE pool = ? GROUP BY node ORDER BY node",
                (name,),
            ).fetchall()
            if owners:
                raise PoolInUse(_in_use(name, owners), pool=name)
            connection.execute("DELETE FROM pools WHERE name = ?", (name,))

        await self._run(work)

    async def list_pools(self) -> Sequence[Pool]:
        """See contract."""
        return await self._run(_list_pools)

    async def get_pool(self, name: PoolName) -> Pool:
        """See contract."""
        return await self._run(lambda connection: _get_pool(connection, name))

    def watch_pools(self) -> AsyncIterator[Sequence[Pool]]:
        """See contract."""
        return self._watch(self.list_pools)

    async def claim_blocks(self, node: NodeName, pool: PoolName, count: int) -> list[BlockClaim]:
        """See contract."""

        def work(connection: sqlite3.Connection) -> list[BlockClaim]:
            found = _get_pool(connection, pool)
            if found.cordoned:
                raise PoolCordoned(f"pool {pool} is cordoned and gives no blocks", pool=pool)
            indexes = _free_indexes(connection, found, count)
            if not indexes:
                raise OutOfBlocks(
                    f"pool {pool} is full: all its {found.block_count} blocks are owned; add a "
                    f"subnet with: coilctl pool add-subnet {pool} SUBNET",
                    pool=pool,
                )
            return [_claim(connection, node, BlockId(pool, index)) for index in indexes]

        return await self._run(work)

    async def reclaim_blocks(
        self, node: NodeName, pool: PoolName, indexes: Sequence[int]
    ) -> list[BlockClaim]:
        """See contract."""

        def work(connection: sqlite3.Connection) -> list[BlockClaim]:
            found = _get_pool(connection, pool)
            had: list[BlockClaim] = []
            for index in indexes:
                found.block(index)
                owner = _find_claim(connection, BlockId(pool, index))
                if owner is None:
                    had.append(_claim(connection, node, BlockId(pool, index)))
                elif owner.node == node:
                    had.append(owner)
            return had

        return await self._run(work)

    async def release_block(self, claim: BlockClaim) -> Release:
        """See contract."""

        def work(connection: sqlite3.Connection) -> Release:
            deleted = connection.execute(
                "DELETE FROM blocks WHERE pool = ? AND idx = ? AND node = ? AND revision = ?",
                (claim.id.pool, claim.id.index, claim.node, claim.revision),
            ).rowcount
            return Release.RELEASED if deleted else Release.NOT_OWNER

        return await self._run(work)

    async def list_node_blocks(self, node: NodeName) -> list[BlockClaim]:
        """See contract."""
        query = "SELECT pool, idx, node, revision FROM blocks WHERE node = ? ORDER BY pool, idx"
        return await self._run(lambda c: [_to_claim(row) for row in c.execute(query, (node,))])

    def watch_node_blocks(self, node: NodeName) -> AsyncIterator[list[BlockClaim]]:
        """See contract."""
        return self._watch(lambda: self.list_node_blocks(node))

    async def list_pool_blocks(self, pool: PoolName) -> list[BlockClaim]:
        """See contract."""
        query = "SELECT pool, idx, node, revision FROM blocks WHERE pool = ? ORDER BY idx"

        def work(connection: sqlite3.Connection) -> list[BlockClaim]:
            _get_pool(connection, pool)
            return [_to_claim(row) for row in connection.execute(query, (pool,))]

        return await self._run(work)

    async def _watch(self, read: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
        """Yield what ``read`` returns now and whenever it has changed."""
        seen: object = None
        changes: object = None
        while True:
            try:
                now = await self._run_raw(self._change_mark)
                if now != changes:
                    state = await read()
                    changes = now
                    if state != seen:
                        seen = state
                        yield state
            except StoreUnavailable:
                pass  # an outage: what was missed is seen after it
            await asyncio.sleep(_POLL_SECONDS)

    def _change_mark(self, connection: sqlite3.Connection) -> tuple[int, int, int]:
        """Differs after any change: by others (data_version), by us, or of the file itself."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        return int(version), connection.total_changes, self._inode

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one immediate transaction."""

        def transaction(connection: sqlite3.Connection) -> T:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)

        return await self._run_raw(transaction)

    async def _run_raw(self, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()

        def job() -> T:
            with _mapped_errors(self.path):
                return work(self._connected())

        return await loop.run_in_executor(self._executor, job)

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new one when the file was deleted or replaced under us."""
        inode = sqlite_file.inode_of(self.path)
        if self._connection is None or inode != self._inode:
            self._disconnect()
            self._connection, aside = sqlite_file.connect(self.path)
            self.recovered_from = aside or self.recovered_from
            self._inode = sqlite_file.inode_of(self.path)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _get_pool(connection: sqlite3.Connection, name: PoolName) -> Pool:
    pool = _find_pool(connection, name)
    if pool is None:
        raise PoolNotFound(
            f"pool {name} does not exist; coilctl pool list shows those that do", pool=name
        )
    return pool


def _find_pool(connection: sqlite3.Connection, name: PoolName) -> Pool | None:
    row = connection.execute("SELECT name, spec FROM pools WHERE name = ?", (name,)).fetchone()
    return _to_pool(row) if row else None


def _list_pools(connection: sqlite3.Connection) -> list[Pool]:
    rows = connection.execute("SELECT name, spec FROM pools ORDER BY name").fetchall()
    return [_to_pool(row) for row in rows]


def _put_pool(connection: sqlite3.Connection, pool: Pool) -> Pool:
    connection.execute("UPDATE pools SET spec = ? WHERE name = ?", (pool_to_json(pool), pool.name))
    return pool


def _to_pool(row: tuple[str, str]) -> Pool:
    name, spec = row
    try:
        return pool_from_json(name, spec)
    except (ValueError, KeyError, TypeError, CoilError) as exc:
        raise StoreCorrupt(
            f"the record of pool {name!r} cannot be read ({exc}); restore it from a backup, or "
            "delete the row and create the pool anew"
        ) from exc


def _check_apart(connection: sqlite3.Connection, pool: Pool) -> None:
    others = [other for other in _list_pools(connection) if other.name != pool.name]
    check_overlap([s for other in (*others, pool) for s in other.subnets])


def _claim(connection: sqlite3.Connection, node: NodeName, block: BlockId) -> BlockClaim:
    row = connection.execute(
        "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'revision' "
        "RETURNING CAST(value AS INTEGER)"
    ).fetchone()
    claim = BlockClaim(block, node, int(row[0]))
    connection.execute(
        "INSERT INTO blocks VALUES (?, ?, ?, ?)", (block.pool, block.index, node, claim.revision)
    )
    return claim


def _find_claim(connection: sqlite3.Connection, block: BlockId) -> BlockClaim | None:
    row = connection.execute(
        "SELECT pool, idx, node, revision FROM blocks WHERE pool = ? AND idx = ?",
        (block.pool, block.index),
    ).fetchone()
    return _to_claim(row) if row else None


def _to_claim(row: tuple[str, int, str, int]) -> BlockClaim:
    pool, index, node, revision = row
    try:
        return BlockClaim(BlockId(parse_pool_name(pool), index), parse_node_name(node), revision)
    except CoilError as exc:
        raise StoreCorrupt(
            f"the record of block {pool!r}/{index} cannot be read ({exc}); delete the row"
        ) from exc


def _free_indexes(connection: sqlite3.Connection, pool: Pool, count: int) -> list[int]:
    """The lowest free indexes. Walks the gaps between claims: pools may have 2^59 blocks."""
    found: list[int] = []
    following = 0
    taken = connection.execute("SELECT idx FROM blocks WHERE pool = ? ORDER BY idx", (pool.name,))
    for (index,) in taken:
        if len(found) >= count:
            return found
        gap = range(following, index)
        found.extend(gap[: count - len(found)])
        following = index + 1
    rest = range(following, pool.block_count)
    return found + list(rest[: count - len(found)])


def _in_use(name: PoolName, owners: Sequence[tuple[str, int]]) -> str:
    total = sum(count for _node, count in owners)
    nodes = ", ".join(f"{node} ({count})" for node, count in owners[:_SHOWN_NODES])
    more = f" and {len(owners) - _SHOWN_NODES} more" if len(owners) > _SHOWN_NODES else ""
    return (
        f"pool {name} is in use: {total} blocks are owned by {nodes}{more}; cordon it with: "
        f"coilctl pool cordon {name}, and delete it when its pods are gone"
    )


@contextmanager
def _mapped_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise StoreUnavailable(f"store {path} cannot be used now: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        raise StoreCorrupt(
            f"store {path} is damaged: {exc}; restart coild, which keeps it aside and builds a "
            "new one"
        ) from exc
    except sqlite3.Error as exc:
        raise StoreError(f"store {path}: {exc}") from exc
