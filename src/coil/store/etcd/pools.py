"""Pools in etcd: one key each. See ``coil.store.contract.PoolStore`` for what is promised.

That no two pools overlap is kept by one comparison: none of the pools that were read has been
written since. Operators are few, so this is a key range that may be contended now and then.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from coil.domain.codec import pool_from_json, pool_to_json
from coil.domain.errors import CoilError, PoolExists, PoolInUse
from coil.domain.names import PoolName
from coil.domain.pool import Pool, Subnet, check_overlap
from coil.store.errors import StoreConflict
from coil.store.etcd.base import EtcdPart
from coil.store.etcd.engine import Engine
from coil.store.etcd.keys import Keys
from coil.store.etcd.wire import (
    KeyValue,
    delete,
    delete_below,
    get,
    get_below,
    is_absent,
    is_unchanged,
    none_below,
    none_newer,
    put,
)
from coil.store.messages import pool_in_use, pool_not_found


class EtcdPools(EtcdPart):
    """See module."""

    def __init__(self, client: Engine, keys: Keys) -> None:
        super().__init__(client, keys)
        self.told: dict[PoolName, tuple[KeyValue, Pool]] = {}
        """Records, and what they say, that a watch told of. They may be old: a transaction must be
        asked."""

    async def create_pool(self, pool: Pool) -> None:
        """See the contract."""
        key = self._keys.pool(pool.name)
        async for _ in self._client.attempts():
            found = await self._client.read(get_below(self._keys.pools))
            if any(pair.key == key for pair in found.pairs(0)):
                raise PoolExists(f"pool {pool.name} exists already", pool=pool.name)
            _check_apart(pool, map(self.to_pool, found.pairs(0)))
            conditions = [is_absent(key), none_newer(self._keys.pools, found.revision)]
            if (await self._client.write(conditions, [put(key, _value(pool))])).succeeded:
                return
        raise self._conflict(pool.name)

    async def add_subnet(self, name: PoolName, subnet: Subnet) -> Pool:
        """See the contract."""
        return await self._change(name, lambda pool: pool.extended(subnet))

    async def set_cordoned(self, name: PoolName, *, cordoned: bool) -> Pool:
        """See the contract."""
        return await self._change(name, lambda pool: replace(pool, cordoned=cordoned))

    async def _change(self, name: PoolName, change: Callable[[Pool], Pool]) -> Pool:
        key = self._keys.pool(name)
        async for _ in self._client.attempts():
            found = await self._client.read(get_below(self._keys.pools))
            pairs = {pair.key: pair for pair in found.pairs(0)}
            if key not in pairs:
                raise pool_not_found(name)
            pair = pairs.pop(key)
            before = self.to_pool(pair)
            after = change(before)
            if after == before:
                return before
            if after.subnets != before.subnets:
                _check_apart(after, map(self.to_pool, pairs.values()))
            conditions = [is_unchanged(pair), none_newer(self._keys.pools, found.revision)]
            if (await self._client.write(conditions, [put(pair.key, _value(after))])).succeeded:
                return after
        raise self._conflict(name)

    async def delete_pool(self, name: PoolName) -> None:
        """See the contract. A pool whose record cannot be read can be deleted, too."""
        key = self._keys.pool(name)
        async for _ in self._client.attempts():
            pairs = (await self._client.read(get(key))).pairs(0)
            if not pairs:
                raise pool_not_found(name)
            done = await self._client.write(
                [is_unchanged(pairs[0]), none_below(self._keys.blocks(name))],
                [delete(key), delete_below(self._keys.ranges(name))],
                [get_below(self._keys.blocks(name))],
            )
            if done.succeeded:
                return
            owners = Counter(self.to_claim(pair).node for pair in done.pairs(0))
            if owners:
                raise PoolInUse(pool_in_use(name, sorted(owners.items())), pool=name)
        raise self._conflict(name)

    async def list_pools(self) -> Sequence[Pool]:
        """See the contract."""
        found = await self._client.read(get_below(self._keys.pools))
        return list(self.readable(found.pairs(0), self.to_pool))

    async def get_pool(self, name: PoolName) -> Pool:
        """See the contract."""
        pairs = (await self._client.read(get(self._keys.pool(name)))).pairs(0)
        if not pairs:
            raise pool_not_found(name)
        return self.to_pool(pairs[0])

    async def watch_pools(self) -> AsyncIterator[Sequence[Pool]]:
        """See the contract. A change brings the pool itself: no node has to ask for it."""

        def read(pair: KeyValue) -> tuple[PoolName, Pool]:
            pool = self.to_pool(pair)
            self.told[pool.name] = pair, pool
            return pool.name, pool

        async with contextlib.aclosing(self.watch_entries(self._keys.pools, read)) as states:
            async for pools in states:
                yield [pool for _name, pool in sorted(pools.items())]

    def to_pool(self, pair: KeyValue) -> Pool:
        """The pool of a record. Raises StoreCorrupt."""
        name = pair.key.removeprefix(self._keys.pools)
        try:
            return pool_from_json(name, pair.value.decode())
        except (CoilError, ValueError) as exc:
            raise self.corrupt(pair, exc) from exc

    def _conflict(self, name: PoolName) -> StoreConflict:
        return StoreConflict(f"pools are changed by others all the time; {name} was not", pool=name)


def _value(pool: Pool) -> bytes:
    return pool_to_json(pool).encode()


def _check_apart(pool: Pool, others: Iterable[Pool]) -> None:
    check_overlap(subnet for each in (*others, pool) for subnet in each.subnets)
