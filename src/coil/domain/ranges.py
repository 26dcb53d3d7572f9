"""Ranges: runs of blocks that belong to one rack, so that a ToR can announce few prefixes. Pure.

A pool's subnet is cut into ranges of equal, aligned size. A rack without a range gets one in the
middle of the largest free space, and a rack that is full doubles what it has as long as the
space beside it is free: so most racks stay one prefix each while the pool has room.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import collapse_addresses
from itertools import chain

from coil.domain.block import MAX_INDEX
from coil.domain.names import RackName
from coil.domain.pool import Network, Pool

_RANGES_LOG2 = 8
"""A subnet has about 256 ranges: more than a data centre of 1,000s of nodes has racks (125)..."""
_MAX_RANGE_LOG2 = 6
"""...but a range has at most 64 blocks: a rack's nodes read what is taken in it before a claim."""
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
        range_log2 = min(_MAX_RANGE_LOG2, max(0, blocks_log2 - _RANGES_LOG2))
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


def grow(pool: Pool, owners: Mapping[int, RackName], rack: RackName) -> list[Range]:
    """The ranges that ``rack`` should take next; none when every range has an owner.

    ``owners`` says whose each taken range is, by the range's first block.
    """
    mine = {first for first, owner in owners.items() if owner == rack}
    sections = list(_sections(pool))
    for section in sections:
        beside = _double(section, section.slots(mine), section.slots(owners.keys() - mine))
        if beside:
            return [section.at(slot) for slot in beside]
    best: tuple[int, Range] | None = None
    for section in sections:
        found = _widest_free(section.slots(owners), section.count)
        if found and (best is None or found[1] << section.range_log2 > best[0]):
            best = found[1] << section.range_log2, section.at(found[0])
    return [best[1]] if best else []


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


def _widest_free(taken: list[int], count: int) -> tuple[int, int] | None:
    """Begin and size of the largest aligned group of free slots, the lowest of equals."""
    best: tuple[int, int] | None = None
    begin = 0
    for end in (*taken, count):
        found = _widest_between(begin, end)
        if found and (best is None or found[1] > best[1]):
            best = found
        begin = end + 1
    return best


def _widest_between(begin: int, end: int) -> tuple[int, int] | None:
    for log2 in range((end - begin).bit_length() - 1, -1, -1):
        size = 1 << log2
        aligned = -(-begin // size) * size
        if aligned + size <= end:
            return aligned, size
    return None


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
