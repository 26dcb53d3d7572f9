"""Pools: what they refuse, how they are cut, and that no two addresses meet."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coil.domain.errors import InvalidPool, SubnetOverlap
from coil.domain.names import PoolName
from coil.domain.pool import (
    MAX_BLOCK_SIZE_LOG2,
    MAX_COOL_DOWN,
    Network,
    Pool,
    Subnet,
    check_overlap,
    parse_subnet,
)
from unit.domain.strategies import FAMILIES, pools, subnet_in_slot

NAME = PoolName("p")


def make(*subnets: str, bits: int = 5) -> Pool:
    return Pool(NAME, tuple(map(parse_subnet, subnets)), bits)


# Cutting into blocks


@given(pool=pools(), data=st.data())
def test_index_and_address_determine_each_other(pool: Pool, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, pool.block_count - 1))
    offset = data.draw(st.integers(0, pool.block_size - 1))
    block = pool.block(index)
    assert block.index == index
    assert block.size == pool.block_size
    assert len(block.addresses(offset)) == len(pool.families)
    for address in block.addresses(offset):
        assert pool.find_block(address) == block
        assert block.find_offset(address) == offset


@given(pool=pools(max_host_bits=6))
def test_blocks_hold_every_address_of_the_subnets_exactly_once(pool: Pool) -> None:
    blocks = [pool.block(index) for index in range(pool.block_count)]
    cut = [address for b in blocks for o in range(b.size) for address in b.addresses(o)]
    whole = [address for subnet in pool.subnets for n in subnet.networks for address in n]
    assert len(set(cut)) == len(cut)
    assert set(cut) == set(whole)


@given(pool=pools())
def test_first_and_last_address_of_every_subnet_are_in_a_block(pool: Pool) -> None:
    for subnet in pool.subnets:
        for network in subnet.networks:
            first, last = pool.find_block(network[0]), pool.find_block(network[-1])
            assert first is not None
            assert last is not None
            assert first.find_offset(network[0]) == 0
            assert last.find_offset(network[-1]) == pool.block_size - 1
            for outside in (network[0] - 1, network[-1] + 1):
                assert pool.find_block(outside) is None or any(
                    outside in other for s in pool.subnets for other in s.networks
                )


@given(pool=pools(), slot=st.integers(0, 255), data=st.data())
def test_a_pool_that_grows_keeps_the_index_of_every_block(
    pool: Pool, slot: int, data: st.DataObject
) -> None:
    bits = data.draw(st.integers(pool.block_size_log2, 16))
    more = subnet_in_slot(slot, bits, pool.families)
    assume(not any(more.overlaps(subnet) for subnet in pool.subnets))
    grown = pool.extended(more)
    index = data.draw(st.integers(0, pool.block_count - 1))
    assert grown.block(index) == pool.block(index)
    assert grown.block_count == pool.block_count + 2 ** (bits - pool.block_size_log2)
    assert grown.block(pool.block_count).networks[0][0] == more.networks[0][0]


@pytest.mark.parametrize("index", [-1, 4, 10**30])
def test_a_block_outside_the_pool_is_refused_by_name(index: int) -> None:
    with pytest.raises(InvalidPool, match=rf"pool p has no block {index}: it has 4"):
        make("10.0.0.0/25").block(index)


def test_huge_pools_are_cut_without_being_walked() -> None:
    pool = make("fd00:1::/64", "fd00:2::/48")
    assert pool.block_count == 2**59 + 2**75
    assert str(pool.block(2**59 - 1)) == "fd00:1::ffff:ffff:ffff:ffe0/123"
    assert str(pool.block(2**59)) == "fd00:2::/123"
    last = pool.block(pool.block_count - 1)
    assert str(last) == "fd00:2:0:ffff:ffff:ffff:ffff:ffe0/123"
    assert pool.find_block(ip_address("fd00:2:0:ffff:ffff:ffff:ffff:ffff")) == last


def test_the_halves_of_a_dual_stack_block_have_the_same_place_in_their_subnets() -> None:
    pool = make("10.9.0.0/24,fd00:9::/120", "10.8.0.0/26,fd00:8::/122")
    assert str(pool.block(0)) == "10.9.0.0/27,fd00:9::/123"
    assert str(pool.block(7)) == "10.9.0.224/27,fd00:9::e0/123"
    assert str(pool.block(9)) == "10.8.0.32/27,fd00:8::20/123"


def test_blocks_of_one_address_are_possible() -> None:
    pool = make("10.0.0.0/30", bits=0)
    assert [str(pool.block(i)) for i in range(4)] == [f"10.0.0.{i}/32" for i in range(4)]


# Overlap

SMALL = st.one_of(
    st.builds(
        lambda address, bits: ip_network((f"10.0.0.{address}", bits), strict=False),
        st.integers(0, 255),
        st.integers(24, 32),
    ),
    st.builds(
        lambda address, bits: ip_network((f"fd00::{address:x}", bits), strict=False),
        st.integers(0, 255),
        st.integers(120, 128),
    ),
)


def of(network: Network) -> Subnet:
    return Subnet(network) if isinstance(network, IPv4Network) else Subnet(None, network)


@given(st.lists(SMALL, max_size=8))
def test_overlap_is_found_exactly_when_an_address_is_in_two_subnets(
    networks: list[Network],
) -> None:
    shared = any(set(a) & set(b) for a, b in combinations(networks, 2))
    try:
        check_overlap([of(network) for network in networks])
    except SubnetOverlap:
        assert shared
    else:
        assert not shared


@given(a=SMALL, b=SMALL)
def test_two_subnets_overlap_exactly_when_they_share_an_address(a: Network, b: Network) -> None:
    assert of(a).overlaps(of(b)) == bool(set(a) & set(b)) == of(b).overlaps(of(a))


def test_one_shared_half_makes_dual_stack_subnets_overlap() -> None:
    a = parse_subnet("10.0.0.0/24,fd00:1::/120")
    b = parse_subnet("10.0.1.0/24,fd00:1::/120")
    assert a.overlaps(b)
    with pytest.raises(SubnetOverlap, match="fd00:1::/120 overlaps fd00:1::/120"):
        check_overlap([a, b])


def test_a_pool_cannot_hold_the_same_address_twice() -> None:
    with pytest.raises(SubnetOverlap, match=r"10\.0\.0\.128/25 overlaps 10\.0\.0\.0/24"):
        make("10.0.0.0/24").extended(parse_subnet("10.0.0.128/25"))


# Reading subnets


@given(pool=pools())
def test_a_subnet_that_was_written_reads_the_same(pool: Pool) -> None:
    for subnet in pool.subnets:
        assert parse_subnet(str(subnet)) == subnet


def test_the_order_of_the_halves_does_not_matter() -> None:
    assert parse_subnet("fd00::/112 , 10.0.0.0/16") == parse_subnet("10.0.0.0/16,fd00::/112")


@given(st.one_of(st.text(), st.text(alphabet="0123456789abcdef.:/,% ", max_size=40)))
def test_any_text_is_a_subnet_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidPool):
        subnet = parse_subnet(text)
        assert parse_subnet(str(subnet)) == subnet


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write it like"),
        (",", "write it like"),
        ("10.0.0.0/33", "write it like"),
        ("10.0.0.1/24", "did you mean 10.0.0.0/24"),
        ("fd00::1/112", "did you mean fd00::/112"),
        ("10.0.0.0/24,", "write it like"),
        ("10.0.0.0/24,10.1.0.0/24", "two networks of one family"),
        ("fd00::/120,fd01::/120", "two networks of one family"),
        ("10.0.0.0/24,fd00::/112", "use a /120 for IPv6"),
        ("fd00::%eth0/112", "interface"),
        ("0.0.0.0/0", "cannot have"),
        ("::/0", "cannot have"),
        ("0.0.0.0/8", "cannot have"),
        ("127.0.0.0/16", "cannot have"),
        ("169.254.1.0/24", "cannot have"),
        ("224.0.0.0/24", "cannot have"),
        ("255.255.255.255/32", "cannot have"),
        ("::/128", "cannot have"),
        ("::1/128", "cannot have"),
        ("::10.0.0.0/120", "cannot have"),
        ("::ffff:10.0.0.0/120", "cannot have"),
        ("fe80::/64", "cannot have"),
        ("ff02::/112", "cannot have"),
        ("10.0.0.0/24,fe80::/120", "cannot have"),
        # The special part is smaller than the subnet.
        ("96.0.0.0/3", "cannot have"),
        ("128.0.0.0/2", "cannot have"),
        ("192.0.0.0/2", "cannot have"),
        ("fe00::/7", "cannot have"),
    ],
)
def test_what_cannot_be_a_subnet_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(InvalidPool) as caught:
        parse_subnet(text)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8", "100.64.0.0/10", "240.0.0.0/8", "203.0.113.7/32", "2001:db8::/32"]
)
def test_every_unicast_range_may_be_a_subnet(text: str) -> None:
    assert str(parse_subnet(text)) == text


def test_a_subnet_needs_a_network() -> None:
    with pytest.raises(InvalidPool):
        Subnet()


def test_families_come_from_the_networks() -> None:
    assert [parse_subnet(t).families for t in ("10.0.0.0/24", "fd00::/64")] == [(4,), (6,)]
    assert Subnet(IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/120")).families == (4, 6)


# Making pools


@pytest.mark.parametrize("families", FAMILIES)
def test_all_subnets_of_a_pool_have_the_same_families(families: tuple[int, ...]) -> None:
    subnets = [subnet_in_slot(slot, 8, f) for slot, f in enumerate(FAMILIES)]
    pool = Pool(NAME, (subnets[FAMILIES.index(families)],))
    assert pool.families == families
    for other in subnets:
        if other.families != families:
            with pytest.raises(InvalidPool, match="same address families"):
                pool.extended(other)


def test_a_subnet_smaller_than_a_block_is_refused_with_what_would_fit() -> None:
    with pytest.raises(InvalidPool, match="use at most 4 block bits"):
        make("10.0.0.0/28")
    assert make("10.0.0.0/28", bits=4).block_count == 1


@pytest.mark.parametrize("bits", [-1, MAX_BLOCK_SIZE_LOG2 + 1])
def test_block_sizes_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(InvalidPool, match="block bits must be 0 to 16"):
        make("10.0.0.0/8", bits=bits)


@pytest.mark.parametrize("seconds", [-1, MAX_COOL_DOWN + 1])
def test_cool_downs_out_of_range_are_refused(seconds: int) -> None:
    with pytest.raises(InvalidPool, match="cool-down"):
        Pool(NAME, (parse_subnet("10.0.0.0/24"),), cool_down=seconds)


def test_a_pool_needs_a_subnet() -> None:
    with pytest.raises(InvalidPool, match="needs a subnet"):
        Pool(NAME, ())


def test_the_defaults_are_blocks_of_32_and_130_seconds() -> None:
    pool = Pool(NAME, (parse_subnet("10.0.0.0/24"),))
    assert (pool.block_size, pool.cool_down, pool.cordoned) == (32, 130, False)
