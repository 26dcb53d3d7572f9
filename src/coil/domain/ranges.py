"""Ranges: runs of blocks that belong to one rack, so that a ToR can announce few prefixes. Pure.

A pool's subnet is cut into ranges of equal, aligned size. A rack without a range gets one with as
much room around it as there is, and a rack that is full doubles what it has as long as the space
beside it is free: so most racks stay one prefix each while the pool has room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import collapse_addresses
from itertools import chain

from coil.domain.block import MAX_INDEX
from coil.domain.names import RackName
from coil.domain.pool import Network, Pool

_RANGES_LOG2 = 8
"""A subnet has about 256 ranges: more than a data centre of 1,000s of nodes has racks (125)..."""
_MAX_RANGE_LOG2 = 6
"""...but a range has at most 64 blocks: a rack's nodes read what is taken in it before a claim."""
_MIN_RANGE_LOG2, _FEWEST_LOG2 = 3, 5
"""Of a small subnet a range has 8 blocks, or else as many as leave 32 ranges: nodes of a rack that
start at once and find one block free among them would get in each other's way."""
_MOST_OFFERS = 32
"""Ranges apart that are tried in one transaction: each is a choice inside the one before it, and
protobuf reads messages inside messages to a depth of 100, two for each."""
_MOST_AT_ONCE = 32
"""Ranges a rack takes in one step: they are claimed in one transaction."""


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Blocks ``first`` to ``first + size - 1`` of a pool."""

    first: int
    size: int

    @property
    def indexes(self) -> range:
        """The blocks' indexes."""
        return range(self.first, self.first + self.size)


@dataclass(frozen=True, slots=True)
class _Section:
    """The ranges of one subnet, numbered from 0."""

    first_block: int
    range_log2: int
    count: int

    def at(self, slot: int) -> Range:
        return Range(self.first_block + (slot << self.range_log2), 1 << self.range_log2)

    def slots(self, firsts: Iterable[int]) -> list[int]:
        end = self.first_block + (self.count << self.range_log2)
        return sorted(
            (first - self.first_block) >> self.range_log2
            for first in firsts
            if self.first_block <= first < end
        )


def _sections(pool: Pool) -> Iterator[_Section]:
    first = 0
    for subnet in pool.subnets:
        blocks_log2 = subnet.host_bits - pool.block_size_log2
        least = min(_MIN_RANGE_LOG2, max(0, blocks_log2 - _FEWEST_LOG2))
        range_log2 = min(_MAX_RANGE_LOG2, max(least, blocks_log2 - _RANGES_LOG2))
        # What no store can hold does not exist: see MAX_INDEX.
        blocks = min(1 << blocks_log2, max(0, MAX_INDEX + 1 - first))
        if blocks >> range_log2:
            yield _Section(first, range_log2, blocks >> range_log2)
        first += 1 << blocks_log2


def range_of(pool: Pool, index: int) -> Range:
    """The range a block lies in. Raises ValueError when the pool has no such block."""
    for section in _sections(pool):
        slot = (index - section.first_block) >> section.range_log2
        if 0 <= slot < section.count:
            return section.at(slot)
    raise ValueError(f"pool {pool.name} has no block {index}")


def ranges_from(pool: Pool, place: int) -> Iterator[Range]:
    """All ranges, beginning with the one at ``place`` modulo their number, then round."""
    sections = list(_sections(pool))
    total = sum(section.count for section in sections)
    start = place % total
    for number in chain(range(start, total), range(start)):
        rest = number
        for section in sections:
            if rest < section.count:
                yield section.at(rest)
                break
            rest -= section.count


def beside(pool: Pool, owners: Mapping[int, RackName], rack: RackName) -> list[Range]:
    """The ranges that double what ``rack`` has in place; none when a neighbour is in the way.

    ``owners`` says whose each taken range is, by the range's first block.
    """
    mine = {first for first, owner in owners.items() if owner == rack}
    for section in _sections(pool):
        found = _double(section, section.slots(mine), section.slots(owners.keys() - mine))
        if found:
            return [section.at(slot) for slot in found]
    return []


def apart(pool: Pool, owners: Mapping[int, RackName], rack: RackName) -> list[Range]:
    """Ranges with room around them, of which ``rack`` should take one: the first that is free.

    Each is the beginning of the largest space that is left when those before it are taken. Of
    spaces of one size every rack has its own order: racks that start at the same moment take
    different ones, and a rack's nodes the same. None when every range has an owner.
    """
    spaces: list[tuple[int, bytes, int, _Section]] = []

    def push(section: _Section, begin: int, size: int) -> None:
        first = section.at(begin).first
        order = hashlib.sha256(f"{rack} {first}".encode()).digest()
        heappush(spaces, (-(size << section.range_log2), order, begin, section))

    for section in _sections(pool):
        for begin, size in _free_groups(section.slots(owners), section.count):
            push(section, begin, size)
    found: list[Range] = []
    while spaces and len(found) < _MOST_OFFERS:
        blocks, _order, begin, section = heappop(spaces)
        found.append(section.at(begin))
        size = 1
        while size << section.range_log2 < -blocks:
            push(section, begin + size, size)
            size *= 2
    return found


def _double(section: _Section, mine: list[int], others: list[int]) -> list[int]:
    """The free slots which make the largest doublable aligned group of ``mine`` twice as large."""
    for begin, size in sorted(_groups(mine), key=lambda group: -group[1]):
        buddy = begin ^ size
        # Aligned groups of a subnet: the buddy of the whole subnet would lie outside of it.
        if buddy + size > section.count or 2 * size > section.count:
            continue
        if not any(buddy <= slot < buddy + size for slot in others):
            have = set(mine)
            free = [slot for slot in range(buddy, buddy + size) if slot not in have]
            return free[:_MOST_AT_ONCE]
    return []


def _groups(slots: list[int]) -> list[tuple[int, int]]:
    """The maximal aligned groups (begin, size) that the sorted ``slots`` consist of."""
    groups: list[tuple[int, int]] = []
    for slot in slots:
        begin, size = slot, 1
        while groups and groups[-1] == (begin ^ size, size) and begin & size:
            groups.pop()
            begin, size = begin ^ size, 2 * size
        groups.append((begin, size))
    return groups


def _free_groups(taken: list[int], count: int) -> Iterator[tuple[int, int]]:
    """The fewest aligned groups (begin, size) that the free slots consist of."""
    begin = 0
    for end in (*taken, count):
        while begin < end:
            aligned = begin & -begin or count
            size = min(aligned, 1 << (end - begin).bit_length() - 1)
            yield begin, size
            begin += size
        begin = end + 1


def aggregates(pool: Pool, firsts: Collection[int]) -> list[Network]:
    """The fewest prefixes that cover exactly the ranges with these first blocks, IPv4 first."""
    networks: dict[int, list[Network]] = {4: [], 6: []}
    for section in _sections(pool):
        for slot in section.slots(firsts):
            block = pool.block(section.at(slot).first)
            for network in block.networks:
                networks[network.version].append(network.supernet(section.range_log2))
    return [
        *collapse_addresses(n for n in networks[4] if n.version == 4),
        *collapse_addresses(n for n in networks[6] if n.version == 6),
    ]
