"""Blocks: addresses by offset and back."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.block import Block, BlockId
from coil.domain.names import PoolName

DUAL = Block(PoolName("p"), 7, IPv4Network("10.1.0.32/27"), IPv6Network("fd00::1:20/123"))


def test_the_first_and_the_last_address_are_usable_in_both_families() -> None:
    assert DUAL.size == 32
    assert list(map(str, DUAL.addresses(0))) == ["10.1.0.32", "fd00::1:20"]
    assert list(map(str, DUAL.addresses(31))) == ["10.1.0.63", "fd00::1:3f"]


@pytest.mark.parametrize("offset", [-1, 32, 2**70])
def test_an_offset_outside_is_refused(offset: int) -> None:
    with pytest.raises(IndexError, match="p/7"):
        DUAL.addresses(offset)


@given(offset=st.integers(0, 31), family=st.sampled_from([0, 1]))
def test_offset_and_address_are_two_names_of_one_thing(offset: int, family: int) -> None:
    assert DUAL.find_offset(DUAL.addresses(offset)[family]) == offset


@pytest.mark.parametrize("text", ["10.1.0.31", "10.1.0.64", "fd00::1:1f", "fd00::1:40", "::1"])
def test_an_address_outside_has_no_offset(text: str) -> None:
    assert DUAL.find_offset(ip_address(text)) is None


def test_a_block_of_one_address_holds_it() -> None:
    block = Block(PoolName("p"), 0, IPv4Network("10.1.0.1/32"), None)
    assert block.size == 1
    assert block.addresses(0) == (ip_address("10.1.0.1"),)
    assert block.find_offset(ip_address("10.1.0.1")) == 0


def test_blocks_show_their_networks_and_ids_their_pool_and_index() -> None:
    assert str(DUAL) == "10.1.0.32/27,fd00::1:20/123"
    assert DUAL.id == BlockId(PoolName("p"), 7)
    assert str(DUAL.id) == "p/7"
