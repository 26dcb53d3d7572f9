"""Where a node finds free blocks: nobody reads all claims of a pool.

A node of a rack looks in the ranges of its rack; one without a rack near a place that is different
for every node, and not before it has tried there once without looking and was not served. What is
found may be taken by others before it is claimed, and what is remembered may be old: the claim's
transaction compares, so neither does harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from coil.domain.block import MAX_INDEX
from coil.domain.codec import read_json
from coil.domain.errors import CoilError
from coil.domain.names import NodeName, PoolName, RackName, parse_rack_name
from coil.domain.pool import Pool
from coil.domain.ranges import Range, apart, beside, range_of, ranges_from
from coil.store.etcd.engine import Engine
from coil.store.etcd.keys import Keys
from coil.store.etcd.pools import EtcdPools
from coil.store.etcd.wire import (
    Compare,
    KeyValue,
    Operation,
    choice,
    count_between,
    get,
    get_below,
    get_names,
    has_other_value,
    is_absent,
    is_unchanged,
    put,
)
from coil.store.messages import out_of_blocks, pool_cordoned, pool_not_found

_RANGES_AT_ONCE = 16
"""Ranges of which the taken blocks are read before a claim: at most 1,024 keys."""
_SEARCHED_RANGES = 1 << 12
"""How far a node without a rack looks for ranges that no rack has, before it takes any block."""
_GROWTHS = 8
"""Turns of a rack that has no free block: neighbours that start with us are served while it doubles
from 1 to 128 ranges, and what it then has not found in ranges is better found anywhere."""
NOBODY = RackName("")
"""No rack has this name."""
_PAGE = 1000
"""Keys of a request when a pool is nearly full and has to be searched."""
_GAPS = 64
"""Free blocks such a search is content with: enough for a rack's nodes that search at once."""
_FULL_SECONDS = 600.0
"""How long a full pool is believed to hold no foreign key: nodes that are refused ask again every
few seconds, and must not read all of it each time."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A pool as it was read, and whose its ranges are."""

    pair: KeyValue
    pool: Pool
    owners: Mapping[int, RackName]


@dataclass(frozen=True, slots=True)
class Home:
    """A rack's ranges in a pool, as they were read: no range is ever taken from a rack."""

    pair: KeyValue
    pool: Pool
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """Blocks that were free, of a pool as it was read; that may be, where it was not looked."""

    pair: KeyValue
    pool: Pool
    free: list[int]
    of_no_rack: bool = False
    """Only while it lies in no rack's range is a block for the taking."""
    seen: bool = True
    """Whether it was looked."""


class EtcdSearch(EtcdPools):
    """See module."""

    def __init__(self, client: Engine, keys: Keys) -> None:
        super().__init__(client, keys)
        self._homes: dict[tuple[PoolName, RackName], Home] = {}
        self._crowded: set[PoolName] = set()
        """Pools where a node without a rack looks before it claims."""
        self._searched: dict[PoolName, float] = {}
        """When a pool was searched that had as many keys as blocks, and all were taken."""

    async def look(self, name: PoolName) -> Sight:
        """Read a pool and its ranges. Raises PoolNotFound."""
        found = await self._client.read(
            get(self._keys.pool(name)), get_below(self._keys.ranges(name))
        )
        if not found.pairs(0):
            raise pool_not_found(name)
        pair = found.pairs(0)[0]
        return self._sight(pair, self.to_pool(pair), found.pairs(1))

    def _sight(self, pair: KeyValue, pool: Pool, ranges: Iterable[KeyValue]) -> Sight:
        firsts = self.readable(ranges, lambda each: (self._first(pool, each), each))
        owners = {first: self._owner(each) for first, each in firsts}
        return Sight(pair, pool, owners)

    async def _glance(self, name: PoolName) -> Sight:
        """As ``_look_open``, with a read less where a watch has told of the pool.

        It may have changed since: that no block is free must not be said by this.
        """
        told = self.told.get(name)
        if told is None or told[1].cordoned:
            return await self._look_open(name)
        found = await self._client.read(get_below(self._keys.ranges(name)))
        return self._sight(*told, found.pairs(0))

    async def find_free(self, name: PoolName, node: NodeName, rack: RackName | None) -> Offer:
        """Free blocks, where they should be if possible.

        None at all: others were quicker, try again. Raises PoolNotFound, PoolCordoned, OutOfBlocks.
        """
        if rack is not None:
            return await self._of_rack(name, rack)
        return await self._beside_racks(name, node) or await self._anywhere(name, node)

    async def _beside_racks(self, name: PoolName, node: NodeName) -> Offer | None:
        """Around a node's own place, in ranges of no rack: the transaction sees to that."""
        told, crowded = self.told.get(name), name in self._crowded
        if told and not told[1].cordoned and not crowded:
            sight = Sight(*told, owners={})
        else:
            sight = await self._glance(name)
        ranges = _around(sight, node)
        if crowded:
            free = await self._free_in(sight.pool, ranges)
        else:  # as a rule most of it is free, and one of the alternatives will do
            free = [index for each in ranges for index in each.indexes]
        offer = Offer(sight.pair, sight.pool, free, of_no_rack=True, seen=crowded)
        return offer if free else None

    def conditions(self, offer: Offer, index: int) -> list[Compare]:
        """When a block of an offer may be had."""
        name = offer.pool.name
        conditions = [is_absent(self._keys.block_at(name, index))]
        if offer.of_no_rack:
            first = range_of(offer.pool, index).first
            conditions.append(is_absent(self._keys.range(name, first)))
        return conditions

    async def _of_rack(self, name: PoolName, rack: RackName) -> Offer:
        home = self._homes.get((name, rack))
        free = await self._free_at_home(home) if home else []
        if home and free:
            return Offer(home.pair, home.pool, free)
        for turn in range(_GROWTHS):
            sight = await (self._look_open(name) if turn else self._glance(name))
            firsts = [first for first, owner in sight.owners.items() if owner == rack]
            ranges = tuple(range_of(sight.pool, first) for first in firsts)
            home = self._homes[name, rack] = Home(sight.pair, sight.pool, ranges)
            free = await self._free_at_home(home)
            if free:
                return Offer(home.pair, home.pool, free)
            if not await self._grow(sight, rack):
                break
        return await self._anywhere(name, rack)

    async def _grow(self, sight: Sight, rack: RackName) -> bool:
        """Try to take a further range for the rack; False when there is none.

        Whether we, a node of the same rack or another rack had it, the next look tells. A node
        whose rack is given a range meanwhile by another never takes a second.
        """
        pool, value = sight.pool.name, json.dumps({"rack": rack}).encode()
        keys = [
            self._keys.range(pool, each.first) for each in beside(sight.pool, sight.owners, rack)
        ]
        if keys:
            conditions = [is_unchanged(sight.pair), *(is_absent(key) for key in keys)]
            await self._client.write(conditions, [put(k, value) for k in keys], repeatable=True)
            return True
        keys = [
            self._keys.range(pool, each.first) for each in apart(sight.pool, sight.owners, rack)
        ]
        if keys:
            take: list[Operation] = []
            for key in reversed(keys):
                take = [choice([has_other_value(key, value)], take, [put(key, value)])]
            await self._client.write([is_unchanged(sight.pair)], take, repeatable=True)
        return bool(keys)

    async def _look_open(self, name: PoolName) -> Sight:
        """Read a pool that gives blocks. Raises PoolNotFound, PoolCordoned."""
        sight = await self.look(name)
        if sight.pool.cordoned:
            raise pool_cordoned(name)
        return sight

    def look_first(self, pool: PoolName) -> None:
        """Look before the next claim: blocks could not be had, others or a rack may have them."""
        self._crowded.add(pool)

    def forget(self, pool: PoolName, rack: RackName | None) -> None:
        """The pool is not what it was: read it before the next claim."""
        self.told.pop(pool, None)
        if rack:
            self._homes.pop((pool, rack), None)

    async def _anywhere(self, name: PoolName, who: str) -> Offer:
        """What is free at all. Raises PoolNotFound, PoolCordoned, OutOfBlocks."""
        sight = await self._look_open(name)
        return Offer(sight.pair, sight.pool, await self._free_anywhere(sight.pool, who))

    async def _free_at_home(self, home: Home) -> list[int]:
        # The latest first: the others were full when it was taken.
        ranges = sorted(home.ranges, reverse=True)
        for begin in range(0, len(ranges), _RANGES_AT_ONCE):
            free = await self._free_in(home.pool, ranges[begin : begin + _RANGES_AT_ONCE])
            if free:
                return free
        return []

    async def _free_in(self, pool: Pool, ranges: Sequence[Range]) -> list[int]:
        if not ranges:
            return []
        spans = list(_joined(ranges))
        found = await self._client.read(*(self._names(pool, begin, end) for begin, end in spans))
        taken = {
            index
            for position in range(len(spans))
            for index in self.readable(found.pairs(position), self.index)
        }
        return [index for span in spans for index in range(*span) if index not in taken]

    async def _free_anywhere(self, pool: Pool, who: str) -> list[int]:
        """Search the whole pool, from a place of one's own on. Raises OutOfBlocks."""
        size = min(pool.block_count, MAX_INDEX + 1)
        keys = self._keys.block_at(pool.name, 0), self._keys.block_at(pool.name, size)
        taken = (await self._client.read(count_between(*keys))).count(0)
        now = asyncio.get_running_loop().time()
        if taken > size:
            self._searched.pop(pool.name, None)
        elif taken == size and now - self._searched.get(pool.name, -math.inf) < _FULL_SECONDS:
            raise out_of_blocks(pool)
        start = _place(who) % size
        free = await self._gaps(pool, start, size) or await self._gaps(pool, 0, start)
        # The count is of one moment; a search may pass by what is given back behind it. Where there
        # are as many keys as blocks some may be nobody's, and blocks free all the same.
        if not free and taken >= size:
            if taken == size:
                self._searched[pool.name] = now
            raise out_of_blocks(pool)
        return free

    async def _gaps(self, pool: Pool, begin: int, end: int) -> list[int]:
        """Some free indexes from ``begin`` to before ``end``."""
        key, behind = (self._keys.block_at(pool.name, index) for index in (begin, end))
        while True:
            page = (await self._client.read(get_names(key, behind, limit=_PAGE))).pairs(0)
            taken = set(self.readable(page, self.index))
            # Of a page that holds nothing of coil's nothing can be said but that more may follow.
            last = end if len(page) < _PAGE else (max(taken) + 1 if taken else begin)
            free = list(islice((n for n in range(begin, last) if n not in taken), _GAPS))
            if free or len(page) < _PAGE:
                return free
            begin, key = last, page[-1].key + "\0"

    def _names(self, pool: Pool, begin: int, end: int) -> Operation:
        return get_names(self._keys.block_at(pool.name, begin), self._keys.block_at(pool.name, end))

    def index(self, pair: KeyValue) -> int:
        """Of the block that a key is about. Raises StoreCorrupt."""
        return self.to_block_id(pair).index

    def _first(self, pool: Pool, pair: KeyValue) -> int:
        """The first block of the range that a key is about. Raises StoreCorrupt."""
        first = self.index(pair)
        try:
            if range_of(pool, first).first == first:
                return first
        except ValueError as exc:
            raise self.corrupt(pair, exc) from exc
        raise self.corrupt(pair, "no range begins there")

    def _owner(self, pair: KeyValue) -> RackName:
        """Whose a range is. One that cannot be read is taken all the same: it is nobody's."""
        return next(self.readable([pair], self._to_rack), NOBODY)

    def _to_rack(self, pair: KeyValue) -> RackName:
        try:
            match read_json(pair.value.decode()):
                case {"rack": str(rack)}:
                    return parse_rack_name(rack)
        except (CoilError, ValueError) as exc:
            raise self.corrupt(pair, exc) from exc
        raise self.corrupt(pair, "it names no rack")


def _around(sight: Sight, node: NodeName) -> list[Range]:
    """The ranges around a node's own place, less those that are known to be a rack's."""
    ranges = islice(ranges_from(sight.pool, _place(node)), _SEARCHED_RANGES)
    return list(islice((r for r in ranges if r.first not in sight.owners), _RANGES_AT_ONCE))


def _place(name: str) -> int:
    """A number that is different for every name, and always the same for one."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _joined(ranges: Iterable[Range]) -> Iterator[tuple[int, int]]:
    """Begin and end of the fewest spans that hold exactly these ranges."""
    ordered = sorted(ranges)
    begins = [ordered[0], *(b for a, b in pairwise(ordered) if a.first + a.size != b.first)]
    ends = [a for a, b in pairwise(ordered) if a.first + a.size != b.first] + [ordered[-1]]
    for begin, end in zip(begins, ends, strict=True):
        yield begin.first, end.first + end.size
