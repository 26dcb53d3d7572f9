"""When a node claims blocks and when it gives them back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.level import low_water, missing_blocks, surplus_blocks
from coil.domain.names import PoolName
from coil.domain.pool import Pool, parse_subnet

BITS = st.integers(0, 8)
MANY = st.integers(0, 2000)


def pool(bits: int = 5) -> Pool:
    return Pool(PoolName("p"), (parse_subnet("10.0.0.0/8"),), bits)


@pytest.mark.parametrize(
    ("free", "waiting", "blocks"),
    [(16, 0, 0), (15, 0, 1), (0, 0, 1), (0, 16, 1), (0, 17, 2), (0, 100, 4), (0, 9999, 16)],
)
def test_a_node_claims_for_who_waits_and_half_a_block_ahead(
    free: int, waiting: int, blocks: int
) -> None:
    assert missing_blocks(pool(), free=free, waiting=waiting) == blocks


@pytest.mark.parametrize(
    ("free", "idle", "blocks"), [(64, 2, 1), (47, 2, 0), (48, 2, 1), (96, 1, 0), (320, 10, 9)]
)
def test_of_idle_blocks_one_stays_and_low_water_holds(free: int, idle: int, blocks: int) -> None:
    assert surplus_blocks(pool(), free=free, idle=idle) == blocks


@given(bits=BITS, free=MANY)
def test_what_a_claim_brought_is_never_surplus(bits: int, free: int) -> None:
    made = pool(bits)
    claimed = missing_blocks(made, free=free)
    after = free + claimed * made.block_size
    if claimed:
        # Blocks that were idle before count among those that were free.
        assert surplus_blocks(made, free=after, idle=after // made.block_size) == 0
    if claimed < 16:
        assert after >= low_water(made)


@given(bits=BITS, used_blocks_free=MANY, idle=st.integers(0, 50))
def test_giving_back_leaves_enough_and_is_done_in_one_go(
    bits: int, used_blocks_free: int, idle: int
) -> None:
    made = pool(bits)
    free = used_blocks_free + idle * made.block_size
    given_back = surplus_blocks(made, free=free, idle=idle)
    assert 0 <= given_back <= max(0, idle - 1)
    after = free - given_back * made.block_size
    if given_back:
        assert missing_blocks(made, free=after) == 0
    assert surplus_blocks(made, free=after, idle=idle - given_back) == 0


@given(free=MANY, waiting=st.integers(0, 50), idle=st.integers(0, 50))
def test_a_cordoned_pool_claims_nothing_and_gives_all_back(
    free: int, waiting: int, idle: int
) -> None:
    made = replace(pool(), cordoned=True)
    assert missing_blocks(made, free=free, waiting=waiting) == 0
    assert surplus_blocks(made, free=free, idle=idle) == idle
