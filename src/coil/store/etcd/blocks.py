"""Claims in etcd: one key a block, and a copy under its owner's name, written together.

A claim is one transaction: for each wanted block a list of alternatives, of which the first that
is free is taken, so that nodes which saw the same free blocks at the same time hardly ever come
away with nothing.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TypeVar

from coil.domain.block import MAX_INDEX, BlockClaim, BlockId
from coil.domain.codec import claim_to_json
from coil.domain.errors import CoilError
from coil.domain.names import NodeName, PoolName, RackName
from coil.store.errors import StoreConflict, StoreUnavailable
from coil.store.etcd.search import NOBODY, EtcdSearch, Offer, Sight
from coil.store.etcd.wire import (
    KeyValue,
    Operation,
    Results,
    choice,
    delete,
    get,
    get_below,
    get_between,
    has_value,
    is_absent,
    is_unchanged,
    put,
)
from coil.store.messages import pool_not_found

T = TypeVar("T")

_ALTERNATIVES = 8
"""Free blocks offered for each wanted one: all must be taken meanwhile for a claim to fail."""
_MOST_AT_ONCE = 16
"""Blocks of one transaction. etcd takes 128 operations along any path through its choices."""
_MOST_READS = 64
"""Reads of a node's blocks that are under way at once."""


class EtcdBlocks(EtcdSearch):
    """See module, and ``coil.store.contract.BlockStore`` for what is promised."""

    conflicts: int = 0
    """See the contract."""

    async def claim_blocks(
        self, node: NodeName, pool: PoolName, count: int, rack: RackName | None = None
    ) -> list[BlockClaim]:
        """See the contract."""
        if count < 1:
            raise ValueError("count must be at least 1")
        had: list[BlockClaim] = []
        async for _ in self._client.attempts():
            try:
                had += await self._claim_some(node, pool, count - len(had), rack)
            except StoreUnavailable:
                raise  # what was had is found with what may have been had: by asking the store
            except CoilError:
                # What was had already is the caller's; nobody else would ever release it.
                if had:
                    break
                raise
            if len(had) >= count:
                break
        if not had:
            raise StoreConflict(
                f"other nodes took every free block of pool {pool} first", pool=pool
            )
        return sorted(had, key=lambda claim: claim.id.index)

    async def _claim_some(
        self, node: NodeName, pool: PoolName, count: int, rack: RackName | None
    ) -> list[BlockClaim]:
        """Look for free blocks once, and try to have them."""
        offer = await self.find_free(pool, node, rack)
        wanted = min(count, _MOST_AT_ONCE, len(offer.free))
        if not wanted:
            return []
        tried = random.sample(offer.free, min(len(offer.free), wanted * _ALTERNATIVES))
        alternatives = [
            [_new_claim(node, pool, index) for index in tried[turn::wanted]]
            for turn in range(wanted)
        ]
        done = await self._client.write(
            [is_unchanged(offer.pair)],
            [self._first_free(offer, claims) for claims in alternatives],
        )
        if not done.succeeded:  # the pool's record is another by now
            self.forget(pool, rack)
            return []
        found = (_taken(claims, done.nested(turn)) for turn, claims in enumerate(alternatives))
        had = [claim for claim in found if claim]
        if len(had) < wanted:
            self.conflicts += offer.seen
            self.look_first(pool)
        return had

    def _first_free(self, offer: Offer, claims: Sequence[BlockClaim]) -> Operation:
        """Take the first block that is free; one choice inside the other."""
        rest: list[Operation] = []
        for claim in reversed(claims):
            rest = [choice(self.conditions(offer, claim.id.index), self._writing(claim), rest)]
        return rest[0]

    def _writing(self, claim: BlockClaim) -> list[Operation]:
        value = _value(claim)
        return [
            put(self._keys.block(claim.id), value),
            put(self._keys.owned_block(claim.node, claim.id), value),
        ]

    async def reclaim_blocks(
        self, node: NodeName, pool: PoolName, indexes: Sequence[int]
    ) -> list[BlockClaim]:
        """See the contract. Indexes above MAX_INDEX are never had."""
        sight = await self.look(pool)
        wanted = sorted(set(indexes))
        for index in wanted:
            sight.pool.block(index)
        had: list[BlockClaim] = []
        for part in _batched([index for index in wanted if index <= MAX_INDEX], _MOST_AT_ONCE):
            had += await self._reclaim(node, sight, part)
        return had

    async def _reclaim(
        self, node: NodeName, sight: Sight, indexes: Sequence[int]
    ) -> list[BlockClaim]:
        claims = [_new_claim(node, sight.pool.name, index) for index in indexes]
        attempts = [
            choice(
                [is_absent(self._keys.block(claim.id))],
                self._writing(claim),
                [get(self._keys.block(claim.id))],
            )
            for claim in claims
        ]
        done = await self._client.write([is_unchanged(sight.pair)], attempts)
        if not done.succeeded:
            raise StoreConflict(f"pool {sight.pool.name} was changed meanwhile; try again")
        had: list[BlockClaim] = []
        for position, claim in enumerate(claims):
            nested = done.nested(position)
            owner = claim if nested.succeeded else self.to_claim(nested.pairs(0)[0])
            if owner.node == node:
                had.append(owner)
        return had

    async def release_blocks(self, claims: Sequence[BlockClaim]) -> list[BlockClaim]:
        """See the contract. Many blocks are one transaction, in which each is for itself."""
        released: list[BlockClaim] = []
        for part in _batched(claims, _MOST_AT_ONCE):
            done = await self._client.write([], [self._releasing(claim) for claim in part])
            released += [c for turn, c in enumerate(part) if done.nested(turn).succeeded]
        return released

    def _releasing(self, claim: BlockClaim) -> Operation:
        block, owned = self._keys.block(claim.id), self._keys.owned_block(claim.node, claim.id)
        value = _value(claim)
        return choice(
            [has_value(block, value)],
            [delete(block), delete(owned)],
            # Of a claim that somebody deleted by hand the copy would stay for ever.
            [choice([has_value(owned, value)], [delete(owned)])],
        )

    async def watch_node_blocks(self, node: NodeName) -> AsyncIterator[list[BlockClaim]]:
        """See the contract. Of the copies: they change with the claims, in one transaction.

        What somebody did to one of the two by hand ``list_node_blocks`` tells.
        """
        watch = self.watch_entries(self._keys.owned(node), self._to_entry)
        async with contextlib.aclosing(watch) as states:
            async for claims in states:
                yield sorted(claims.values(), key=lambda claim: (claim.id.pool, claim.id.index))

    async def list_node_blocks(self, node: NodeName) -> list[BlockClaim]:
        """See the contract. A copy only says where to look: the claim itself counts."""
        found = await self._client.read(get_below(self._keys.owned(node)))
        copies = {pair.key: pair for pair in found.pairs(0)}
        blocks = list(self.readable(copies.values(), self.to_block_id))
        claims: list[BlockClaim] = []
        for part in _batched(list(_runs(blocks)), _MOST_READS):
            spans = [self._span(pool, begin, end) for pool, begin, end in part]
            asked = await self._client.read(*spans)
            pairs = [pair for position in range(len(part)) for pair in asked.pairs(position)]
            for block, pair in self.readable(pairs, lambda pair: (self.to_block_id(pair), pair)):
                copy = copies[self._keys.owned_block(node, block)]
                claims.append(self._believed(pair, copy))
        return [claim for claim in claims if claim.node == node]

    def _believed(self, pair: KeyValue, copy: KeyValue) -> BlockClaim:
        """What a claim's key says. While it cannot be read its copy counts: nobody can claim it.

        Raises StoreCorrupt when neither can be read.
        """
        for each in self.readable([pair], self.to_claim):
            return each
        return self.to_claim(copy)

    def _span(self, pool: PoolName, begin: int, end: int) -> Operation:
        return get_between(self._keys.block_at(pool, begin), self._keys.block_at(pool, end))

    def watch_claims(self) -> AsyncIterator[Mapping[BlockId, BlockClaim]]:
        """See the contract."""
        return self.watch_entries(self._keys.all_blocks, self._to_entry)

    def _to_entry(self, pair: KeyValue) -> tuple[BlockId, BlockClaim]:
        claim = self.to_claim(pair)
        return claim.id, claim

    async def list_pool_blocks(self, pool: PoolName) -> list[BlockClaim]:
        """See the contract."""
        found = await self._client.read(
            get(self._keys.pool(pool)), get_below(self._keys.blocks(pool))
        )
        if not found.pairs(0):
            raise pool_not_found(pool)
        return list(self.readable(found.pairs(1), self.to_claim))

    async def list_ranges(self, pool: PoolName) -> dict[int, RackName]:
        """See the contract."""
        owners = (await self.look(pool)).owners
        return {first: rack for first, rack in owners.items() if rack != NOBODY}

    def watch_ranges(self) -> AsyncIterator[Mapping[BlockId, RackName]]:
        """See the contract."""

        def read(pair: KeyValue) -> tuple[BlockId, RackName]:
            return self._keys.block_id(pair.key), self._to_rack(pair)

        return self.watch_entries(self._keys.all_ranges, read)


def _runs(blocks: Sequence[BlockId]) -> Iterator[tuple[PoolName, int, int]]:
    """The fewest spans that hold these blocks and no others; ``blocks`` in order."""
    run: tuple[PoolName, int, int] | None = None
    for block in blocks:
        pool, index = block.pool, block.index
        if run and (pool, index) == (run[0], run[2]):
            run = run[0], run[1], index + 1
            continue
        if run:
            yield run
        run = pool, index, index + 1
    if run:
        yield run


def _batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _new_claim(node: NodeName, pool: PoolName, index: int) -> BlockClaim:
    # Drawn, not counted: a counter would be a key that every node writes.
    return BlockClaim(BlockId(pool, index), node, secrets.randbits(62))


def _taken(offer: Sequence[BlockClaim], results: Results) -> BlockClaim | None:
    """Which of the alternatives was had: as many choices failed as were taken before it."""
    for claim in offer:
        if results.succeeded:
            return claim
        if not len(results):
            return None
        results = results.nested(0)
    return None


def _value(claim: BlockClaim) -> bytes:
    return claim_to_json(claim).encode()
