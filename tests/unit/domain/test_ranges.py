"""Ranges: where a rack's blocks go, and into how few prefixes they fit."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.names import PoolName, RackName
from coil.domain.pool import Pool, parse_subnet
from coil.domain.ranges import aggregates, apart, beside, range_of, ranges_from

R1, R2 = RackName("r1"), RackName("r2")


def pool(*subnets: str, bits: int = 5) -> Pool:
    return Pool(PoolName("p"), tuple(map(parse_subnet, subnets)), bits)


def take(made: Pool, owners: dict[int, RackName], rack: RackName) -> int:
    more = beside(made, owners, rack) or apart(made, owners, rack)[:1]
    for each in more:
        assert each.first not in owners
        owners[each.first] = rack
    return len(more)


def firsts(owners: dict[int, RackName], rack: RackName) -> list[int]:
    return [first for first, owner in owners.items() if owner == rack]


@pytest.mark.parametrize(
    ("made", "size"),
    [
        (pool("10.0.0.0/24"), 1),
        (pool("10.0.0.0/16"), 8),
        (pool("10.0.0.0/8"), 64),
        (pool("fd00::/64", bits=4), 64),
        (pool("10.0.0.0/27"), 1),
    ],
)
def test_a_range_is_small_enough_to_be_read_and_large_enough_for_a_rack(
    made: Pool, size: int
) -> None:
    assert range_of(made, 0).size == size


@given(
    # Four subnets of /8 have a million ranges, which takes seconds for each example.
    prefixes=st.lists(st.integers(12, 24), min_size=1, max_size=4),
    bits=st.integers(0, 8),
    place=st.integers(0, 2**64),
)
def test_ranges_cover_every_block_once(prefixes: list[int], bits: int, place: int) -> None:
    made = pool(*(f"{10 + n}.0.0.0/{p}" for n, p in enumerate(prefixes)), bits=bits)
    found = list(ranges_from(made, place))
    assert sum(each.size for each in found) == made.block_count
    assert len({each.first for each in found}) == len(found)
    for each in islice(found, 50):
        for index in (each.first, each.first + each.size - 1):
            assert range_of(made, index) == each


def test_a_block_that_is_not_there_has_no_range() -> None:
    for index in (-1, 8):
        with pytest.raises(ValueError, match="no block"):
            range_of(pool("10.0.0.0/24"), index)


def test_a_rack_stays_one_prefix_while_there_is_room() -> None:
    made = pool("10.0.0.0/16")
    owners: dict[int, RackName] = {}
    racks = [RackName(f"r{number}") for number in range(16)]
    for _ in range(5):
        for rack in racks:
            assert take(made, owners, rack)
    for rack in racks:
        (network,) = aggregates(made, firsts(owners, rack))
        assert network.prefixlen == 20
    assert all(take(made, owners, rack) == 0 for rack in racks)


def test_a_rack_whose_neighbour_is_taken_grows_elsewhere() -> None:
    made = pool("10.0.0.0/24")
    owners = {0: R1, 1: R2}
    assert take(made, owners, R1) == 1
    assert firsts(owners, R1)[1] >= 4
    assert len(aggregates(made, firsts(owners, R1))) == 2


def test_a_rack_goes_on_in_the_next_subnet() -> None:
    made = pool("10.0.0.0/27", "10.1.0.0/26")
    owners: dict[int, RackName] = {}
    assert [take(made, owners, R1) for _ in range(4)] == [1, 1, 1, 0]
    assert sorted(owners) == [0, 1, 2]


@given(
    prefixes=st.lists(st.integers(14, 24), min_size=1, max_size=3),
    order=st.lists(st.integers(0, 9), max_size=200),
)
def test_no_range_is_taken_twice_and_none_is_refused_while_one_is_free(
    prefixes: list[int], order: list[int]
) -> None:
    made = pool(*(f"{10 + n}.0.0.0/{p}" for n, p in enumerate(prefixes)))
    owners: dict[int, RackName] = {}
    total = sum(1 for _ in ranges_from(made, 0))
    for number in order:
        before = len(owners)
        assert take(made, owners, RackName(f"r{number}")) or before == total
        assert len(owners) > before or before == total
    assert owners.keys() <= {each.first for each in ranges_from(made, 0)}


@given(st.sets(st.integers(0, 255), max_size=60))
def test_aggregates_cover_their_ranges_and_nothing_else(slots: set[int]) -> None:
    made = pool("10.0.0.0/16,fd00::/112")
    mine = [slot * 8 for slot in slots]
    networks = aggregates(made, mine)
    for version in (4, 6):
        found = [network for network in networks if network.version == version]
        assert sum(network.num_addresses for network in found) == len(slots) * 8 * 32
        for slot in slots:
            for network in made.block(slot * 8).networks:
                assert network.version != version or any(network.subnet_of(n) for n in found)


def test_an_ipv6_pool_without_end_is_no_burden() -> None:
    made = pool("fd00::/16", bits=0)
    owners: dict[int, RackName] = {}
    for number in random.Random(1).choices(range(20), k=200):
        assert take(made, owners, RackName(f"r{number}"))
    assert range_of(made, 2**62).first == 2**62


def placed_at_once(made: Pool, racks: list[RackName]) -> tuple[dict[int, RackName], int]:
    """All racks look, and then take what is free of what they saw; until every one has a range."""
    owners: dict[int, RackName] = {}
    rounds = 0
    while waiting := [rack for rack in racks if rack not in owners.values()]:
        seen, rounds = dict(owners), rounds + 1
        for rack in waiting:
            free = (each.first for each in apart(made, seen, rack) if each.first not in owners)
            first = next(free, None)
            if first is not None:
                owners[first] = rack
    return owners, rounds


@pytest.mark.parametrize("count", [1, 16, 125, 256])
def test_racks_that_start_at_once_are_soon_placed_and_far_from_each_other(count: int) -> None:
    made = pool("10.0.0.0/16")
    owners, rounds = placed_at_once(made, [RackName(f"rack-{n}") for n in range(count)])
    assert len(owners) == count
    assert rounds <= 1 + count // 32
    room = 256 // (1 << (count - 1).bit_length())
    assert len({first // 8 // room for first in owners}) == count


@given(
    racks=st.integers(1, 30),
    order=st.lists(st.integers(0, 29), max_size=60),
    lag=st.integers(0, 10),
)
def test_a_rack_that_looked_before_its_range_was_taken_takes_no_second(
    racks: int, order: list[int], lag: int
) -> None:
    made = pool("10.0.0.0/16")
    history: list[dict[int, RackName]] = [{}]
    for number in order:
        rack, owners = RackName(f"r{number % racks}"), dict(history[-1])
        seen = history[max(0, len(history) - 1 - lag)]
        if rack not in seen.values():
            offers = [each.first for each in apart(made, seen, rack)]
            mine = next((f for f in offers if owners.get(f, rack) == rack), None)
            if mine is not None:
                owners[mine] = rack
        history.append(owners)
    taken = list(history[-1].values())
    assert len(taken) == len(set(taken))
