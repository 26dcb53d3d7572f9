"""Claims in etcd: one key a block, and a copy under its owner's name, written together.

A claim is one transaction: for each wanted block a list of alternatives, of which the first that
is free is taken, so that nodes which saw the same free blocks at the same time hardly ever come
away with nothing. What may be free is read before, in the ranges of the node's rack or, without a
rack, near a place that is different for every node: nobody reads all claims of a pool.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from coil.domain.block import MAX_INDEX, BlockClaim, BlockId
from coil.domain.codec import claim_to_json, read_json
from coil.domain.errors import CoilError, OutOfBlocks
from coil.domain.names import NodeName, PoolName, RackName, parse_rack_name
from coil.domain.pool import Pool
from coil.domain.ranges import Range, grow, range_of, ranges_from
from coil.store.contract import Release
from coil.store.errors import StoreConflict, StoreUnavailable
from coil.store.etcd.pools import EtcdPools
from coil.store.etcd.wire import (
    KeyValue,
    Operation,
    Results,
    choice,
    count_below,
    delete,
    get,
    get_below,
    get_names,
    has_value,
    is_absent,
    is_unchanged,
    put,
)
from coil.store.messages import out_of_blocks, pool_cordoned, pool_not_found

T = TypeVar("T")

_ALTERNATIVES = 8
"""Free blocks offered for each wanted one: all must be taken meanwhile for a claim to fail."""
_MOST_AT_ONCE = 16
"""Blocks of one transaction. etcd takes 128 operations: 16 and 3 for each alternative."""
_SPANS = 16
"""Ranges whose taken blocks are read in one request."""
_PAGE = 1000
"""Keys of a request when a pool is nearly full and has to be searched."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """A pool as it was read, and whose its ranges are."""

    pair: KeyValue
    pool: Pool
    owners: Mapping[int, RackName]


class EtcdBlocks(EtcdPools):
    """See module, and ``coil.store.contract.BlockStore`` for what is promised."""

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
            except (OutOfBlocks, StoreUnavailable):
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
        sight = await self._look(pool)
        if sight.pool.cordoned:
            raise pool_cordoned(pool)
        wanted = min(count, _MOST_AT_ONCE)
        free = await self._find_free(sight, node, rack, wanted)
        random.shuffle(free)
        return await self._claim(node, sight.pair, pool, free, wanted)

    async def _look(self, name: PoolName) -> _Sight:
        found = await self._client.read(
            get(self._keys.pool(name)), get_below(self._keys.ranges(name))
        )
        if not found.pairs(0):
            raise pool_not_found(name)
        pair = found.pairs(0)[0]
        owners = dict(self._to_range(each) for each in found.pairs(1))
        return _Sight(pair, self._to_pool(pair), owners)

    async def _find_free(
        self, sight: _Sight, node: NodeName, rack: RackName | None, wanted: int
    ) -> list[int]:
        """Free blocks, at least one, where they should be if possible. Raises OutOfBlocks."""
        if rack is not None:
            free = await self._free_of_rack(sight, rack)
        else:
            unowned = (r for r in _near(sight.pool, node) if r.first not in sight.owners)
            free = await self._free_in(sight.pool, list(islice(unowned, _SPANS)))
        return free or await self._free_anywhere(sight.pool, node, wanted)

    async def _free_of_rack(self, sight: _Sight, rack: RackName) -> list[int]:
        pool = sight.pool
        mine = [first for first, owner in sight.owners.items() if owner == rack]
        sizes = {r.first: r for r in _known(pool, mine)}
        # The latest first: the others were full when it was taken.
        for part in _batched(sorted(sizes.values(), reverse=True)):
            free = await self._free_in(pool, part)
            if free:
                return free
        more = grow(pool, sight.owners, rack)
        if not more:
            return []
        value = json.dumps({"rack": rack}).encode()
        done = await self._client.write(
            [is_absent(self._keys.range(pool.name, each.first)) for each in more],
            [put(self._keys.range(pool.name, each.first), value) for each in more],
            repeatable=True,  # taken by us meanwhile or by another: the next look tells
        )
        return await self._free_in(pool, more) if done.succeeded else []

    async def _free_in(self, pool: Pool, spans: Sequence[Range]) -> list[int]:
        if not spans:
            return []
        asked = [
            get_names(
                self._keys.block_at(pool.name, span.first),
                self._keys.block_at(pool.name, span.first + span.size),
            )
            for span in spans
        ]
        found = await self._client.read(*asked)
        free: list[int] = []
        for position, span in enumerate(spans):
            taken = {self._index(pair) for pair in found.pairs(position)}
            free += [index for index in span.indexes if index not in taken]
        return free

    async def _free_anywhere(self, pool: Pool, node: NodeName, wanted: int) -> list[int]:
        """Search the whole pool, from a place of this node's own on. Raises OutOfBlocks."""
        size = min(pool.block_count, MAX_INDEX + 1)
        taken = (await self._client.read(count_below(self._keys.blocks(pool.name)))).count(0)
        if taken >= size:
            raise out_of_blocks(pool)
        start = _place(node) % size
        free = await self._gaps(pool, start, size, wanted)
        if not free:
            free = await self._gaps(pool, 0, start, wanted)
        if not free:
            raise out_of_blocks(pool)
        return free

    async def _gaps(self, pool: Pool, begin: int, end: int, wanted: int) -> list[int]:
        """Some free indexes from ``begin`` to before ``end``."""
        while begin < end:
            keys = self._keys.block_at(pool.name, begin), self._keys.block_at(pool.name, end)
            found = (await self._client.read(get_names(*keys, limit=_PAGE))).pairs(0)
            page = [self._index(pair) for pair in found]
            last = page[-1] + 1 if len(page) == _PAGE else end
            taken = set(page)
            gaps = (index for index in range(begin, last) if index not in taken)
            free = list(islice(gaps, wanted * _ALTERNATIVES))
            if free:
                return free
            begin = last
        return []

    async def _claim(
        self, node: NodeName, pool: KeyValue, name: PoolName, free: Sequence[int], wanted: int
    ) -> list[BlockClaim]:
        """Try to take some of ``free``; those had. The pool must be as it was read."""
        wanted = min(wanted, len(free))
        offers = [
            [_new_claim(node, name, index) for index in free[turn::wanted][:_ALTERNATIVES]]
            for turn in range(wanted)
        ]
        done = await self._client.write(
            [is_unchanged(pool)], [self._first_free(offer) for offer in offers]
        )
        if not done.succeeded:
            return []
        had = (_taken(offer, done.nested(turn)) for turn, offer in enumerate(offers))
        return [claim for claim in had if claim]

    def _first_free(self, offer: Sequence[BlockClaim]) -> Operation:
        """Take the first block that is free; one choice inside the other."""
        rest: list[Operation] = []
        for claim in reversed(offer):
            is_free = is_absent(self._keys.block(claim.id))
            rest = [choice([is_free], self._writing(claim), rest)]
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
        sight = await self._look(pool)
        wanted = sorted(set(indexes))
        for index in wanted:
            sight.pool.block(index)
        had: list[BlockClaim] = []
        for part in _batched([index for index in wanted if index <= MAX_INDEX]):
            had += await self._reclaim(node, sight, part)
        return had

    async def _reclaim(
        self, node: NodeName, sight: _Sight, indexes: Sequence[int]
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

    async def release_block(self, claim: BlockClaim) -> Release:
        """See the contract."""
        block, owned = self._keys.block(claim.id), self._keys.owned_block(claim.node, claim.id)
        value = _value(claim)
        done = await self._client.write(
            [has_value(block, value)],
            [delete(block), delete(owned)],
            # Of a claim that somebody deleted by hand the copy would stay for ever.
            [choice([has_value(owned, value)], [delete(owned)])],
        )
        return Release.RELEASED if done.succeeded else Release.NOT_OWNER

    async def list_node_blocks(self, node: NodeName) -> list[BlockClaim]:
        """See the contract. A copy without the claim it is of does not count."""
        return (await self._read_node(node))[1]

    def watch_node_blocks(self, node: NodeName) -> AsyncIterator[list[BlockClaim]]:
        """See the contract."""
        return self.watch(self._keys.owned(node), lambda: self._read_node(node))

    async def _read_node(self, node: NodeName) -> tuple[int, list[BlockClaim]]:
        found = await self._client.read(get_below(self._keys.owned(node)))
        copies = [self.to_claim(pair) for pair in found.pairs(0)]
        claims: list[BlockClaim] = []
        for part in _batched(copies, 100):
            asked = await self._client.read(*(get(self._keys.block(copy.id)) for copy in part))
            for position, copy in enumerate(part):
                pairs = asked.pairs(position)
                if pairs and self.to_claim(pairs[0]) == copy:
                    claims.append(copy)
        return found.revision, claims

    def watch_claims(self) -> AsyncIterator[Mapping[BlockId, BlockClaim]]:
        """See the contract."""

        def read(pair: KeyValue) -> tuple[BlockId, BlockClaim]:
            claim = self.to_claim(pair)
            return claim.id, claim

        return self.watch_entries(self._keys.all_blocks, read)

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
        return dict((await self._look(pool)).owners)

    def _index(self, pair: KeyValue) -> int:
        try:
            return self._keys.block_id(pair.key).index
        except ValueError as exc:
            raise self.corrupt(pair, exc) from exc

    def _to_range(self, pair: KeyValue) -> tuple[int, RackName]:
        try:
            match read_json(pair.value.decode()):
                case {"rack": str(rack)}:
                    return self._keys.block_id(pair.key).index, parse_rack_name(rack)
        except (CoilError, ValueError) as exc:
            raise self.corrupt(pair, exc) from exc
        raise self.corrupt(pair, "it names no rack")


def _place(node: NodeName) -> int:
    """A number that is different for every node, and always the same for one."""
    return int.from_bytes(hashlib.sha256(node.encode()).digest()[:8], "big")


def _near(pool: Pool, node: NodeName) -> Iterator[Range]:
    return islice(ranges_from(pool, _place(node)), 1 << 12)


def _known(pool: Pool, firsts: Iterable[int]) -> Iterator[Range]:
    """The ranges with these first blocks, as far as the pool has them."""
    for first in firsts:
        yield range_of(pool, first)


def _batched(items: Sequence[T], size: int = _SPANS) -> Iterator[Sequence[T]]:
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
