"""What the tables hold, as the domain sees it. Lives inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count as count_from
from itertools import islice
from pathlib import Path
from typing import TypeVar

import structlog

from coil.domain.block import MAX_INDEX, BlockClaim, BlockId
from coil.domain.codec import pool_from_json, pool_to_json
from coil.domain.errors import CoilError, PoolInUse
from coil.domain.names import NodeName, PoolName, parse_node_name, parse_pool_name
from coil.domain.pool import Pool, check_overlap
from coil.domain.survey import Survey, Unreadable
from coil.store.errors import StoreCorrupt
from coil.store.messages import pool_in_use, pool_not_found

T = TypeVar("T")
Row = TypeVar("Row")
_log = structlog.get_logger()
_BlockRow = tuple[str, int, str, int]


@dataclass(frozen=True, slots=True)
class Records:
    """Reads and writes rows.

    Lists of pools, and of claims of more than one node, leave out a row that cannot be read and
    tell it once; every other method raises StoreCorrupt for one.
    """

    connection: sqlite3.Connection
    path: Path
    told: set[str]
    """What was told of rows that cannot be read."""

    def identity(self) -> str:
        """The store's name for itself."""
        return str(self.connection.execute("SELECT identity FROM meta").fetchone()[0])

    def has_pool(self, name: PoolName) -> bool:
        """Whether there is such a pool, readable or not."""
        query = "SELECT 1 FROM pools WHERE name = ?"
        return self.connection.execute(query, (name,)).fetchone() is not None

    def require_pool(self, name: PoolName) -> None:
        """Raise PoolNotFound unless there is such a pool, readable or not."""
        if not self.has_pool(name):
            raise pool_not_found(name)

    def get_pool(self, name: PoolName) -> Pool:
        """One pool. Raises PoolNotFound."""
        self.require_pool(name)
        query = "SELECT name, spec FROM pools WHERE name = ?"
        return self._to_pool(*self.connection.execute(query, (name,)).fetchone())

    def list_pools(self) -> list[Pool]:
        """All pools that can be read, by name."""
        rows = self.connection.execute("SELECT name, spec FROM pools ORDER BY name").fetchall()
        return list(self._readable(rows, lambda row: self._to_pool(*row)))

    def insert_pool(self, pool: Pool) -> None:
        """Add a pool. Raises SubnetOverlap."""
        self._check_apart(pool)
        self.connection.execute(
            "INSERT INTO pools (name, spec) VALUES (?, ?)", (pool.name, pool_to_json(pool))
        )

    def update_pool(self, pool: Pool) -> None:
        """Replace a pool that is there. Raises SubnetOverlap."""
        if pool.subnets != self.get_pool(pool.name).subnets:
            self._check_apart(pool)
        self.connection.execute(
            "UPDATE pools SET spec = ? WHERE name = ?", (pool_to_json(pool), pool.name)
        )

    def delete_pool(self, name: PoolName) -> None:
        """Remove a pool without claims. Raises PoolInUse."""
        owners = self.connection.execute(
            "SELECT node, count(*) FROM blocks WHERE pool = ? GROUP BY node ORDER BY node", (name,)
        ).fetchall()
        if owners:
            raise PoolInUse(pool_in_use(name, owners), pool=name)
        self.connection.execute("DELETE FROM pools WHERE name = ?", (name,))

    def _check_apart(self, pool: Pool) -> None:
        rows = self.connection.execute("SELECT name, spec FROM pools WHERE name != ?", (pool.name,))
        others = [self._to_pool(*row) for row in rows.fetchall()]
        check_overlap(subnet for each in (*others, pool) for subnet in each.subnets)

    def node_claims(self, node: NodeName) -> list[BlockClaim]:
        """Claims of one node, by pool and index."""
        return self._claims("node = ? ORDER BY pool, idx", (node,))

    def pool_claims(self, pool: PoolName) -> list[BlockClaim]:
        """Claims of one pool, by index."""
        rows = self._rows("pool = ? ORDER BY idx", (pool,))
        return list(self._readable(rows, self._to_claim))

    def survey(self) -> Survey:
        """All pools and claims, and which rows are neither."""
        unreadable: list[Unreadable] = []

        def readable(name: str, read: Callable[[], T]) -> Iterator[T]:
            try:
                yield read()
            except StoreCorrupt as exc:
                unreadable.append(Unreadable(name, str(exc.__cause__)))

        pools = self.connection.execute("SELECT name, spec FROM pools ORDER BY name").fetchall()
        blocks = self.connection.execute(
            "SELECT pool, idx, node, revision FROM blocks ORDER BY pool, idx"
        ).fetchall()
        return Survey(
            pools=tuple(
                pool
                for name, spec in pools
                for pool in readable(f"pools/{name}", partial(self._to_pool, name, spec))
            ),
            claims=tuple(
                claim
                for row in blocks
                for claim in readable(f"blocks/{row[0]}/{row[1]}", partial(self._to_claim, row))
            ),
            unreadable=tuple(unreadable),
        )

    def all_claims(self) -> list[BlockClaim]:
        """All claims, by pool and index."""
        return list(self._readable(self._rows("true ORDER BY pool, idx", ()), self._to_claim))

    def find_claim(self, pool: PoolName, index: int) -> BlockClaim | None:
        """The claim on one block."""
        found = self._claims("pool = ? AND idx = ?", (pool, index))
        return found[0] if found else None

    def lowest_free(self, pool: Pool, count: int) -> list[int]:
        """Up to ``count`` free indexes, lowest first, without a walk over what is taken."""
        query = "SELECT free_from FROM pools WHERE name = ?"
        begin = self.connection.execute(query, (pool.name,)).fetchone()[0]
        found = self._free_after(begin, pool, count)
        # Rows deleted by an operator's hand leave gaps that free_from does not know.
        return found or self._free_after(0, pool, count)

    def _free_after(self, begin: int, pool: Pool, count: int) -> list[int]:
        taken = self.connection.execute(
            "SELECT idx FROM blocks WHERE pool = ? AND idx >= ? ORDER BY idx", (pool.name, begin)
        )
        free = _gaps(begin, (row[0] for row in taken), min(pool.block_count, MAX_INDEX))
        return list(islice(free, count))

    def insert_claims(
        self, node: NodeName, pool: PoolName, indexes: Sequence[int]
    ) -> list[BlockClaim]:
        """Claim blocks that are free (the caller has looked), each with a revision of its own."""
        if not indexes:
            return []
        last = self.connection.execute(
            "UPDATE meta SET revision = revision + ? RETURNING revision", (len(indexes),)
        ).fetchone()[0]
        revisions = count_from(last - len(indexes) + 1)
        claims = [
            BlockClaim(BlockId(pool, index), node, revision)
            for index, revision in zip(indexes, revisions, strict=False)
        ]
        self.connection.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?, ?)",
            [(pool, claim.id.index, node, claim.revision) for claim in claims],
        )
        return claims

    def set_free_from(self, pool: PoolName, index: int) -> None:
        """Remember that every lower index is claimed."""
        self.connection.execute("UPDATE pools SET free_from = ? WHERE name = ?", (index, pool))

    def delete_claim(self, claim: BlockClaim) -> bool:
        """Remove exactly this claim; False when it is not in force."""
        pool, index = claim.id.pool, claim.id.index
        deleted = self.connection.execute(
            "DELETE FROM blocks WHERE pool = ? AND idx = ? AND node = ? AND revision = ?",
            (pool, index, claim.node, claim.revision),
        ).rowcount
        if deleted:
            self.connection.execute(
                "UPDATE pools SET free_from = min(free_from, ?) WHERE name = ?", (index, pool)
            )
        return bool(deleted)

    def _claims(self, condition: str, values: tuple[str | int, ...]) -> list[BlockClaim]:
        return [self._to_claim(row) for row in self._rows(condition, values)]

    def _rows(self, condition: str, values: tuple[str | int, ...]) -> list[_BlockRow]:
        query = f"SELECT pool, idx, node, revision FROM blocks WHERE {condition}"  # noqa: S608
        return self.connection.execute(query, values).fetchall()

    def _readable(self, rows: Iterable[Row], read: Callable[[Row], T]) -> Iterator[T]:
        for row in rows:
            try:
                yield read(row)
            except StoreCorrupt as exc:
                if exc.message not in self.told:
                    self.told.add(exc.message)
                    _log.error("left out what cannot be read", reason=exc.message)

    def _to_pool(self, name: str, spec: str) -> Pool:
        try:
            return pool_from_json(name, spec)
        except (CoilError, ValueError) as exc:
            raise StoreCorrupt(
                f"the record of pool {name!r} in {self.path} cannot be read ({exc}): delete the "
                "pool and create it anew, or put back a copy of the file",
                path=str(self.path),
                pool=name,
            ) from exc

    def _to_claim(self, row: _BlockRow) -> BlockClaim:
        pool, index, node, revision = row
        try:
            block = BlockId(parse_pool_name(pool), index)
            return BlockClaim(block, parse_node_name(node), revision)
        except CoilError as exc:
            raise StoreCorrupt(
                f"the record of block {pool!r}/{index} in {self.path} cannot be read ({exc}): "
                "put back a copy of the file, or delete the row of table blocks",
                path=str(self.path),
                block=f"{pool}/{index}",
            ) from exc


def _gaps(begin: int, taken: Iterable[int], end: int) -> Iterable[int]:
    """The numbers from ``begin`` to below ``end`` that are not among the ascending ``taken``."""
    for index in taken:
        yield from range(begin, min(index, end))
        begin = index + 1
    yield from range(begin, end)
