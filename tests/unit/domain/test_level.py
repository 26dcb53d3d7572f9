"""When a node claims blocks and when it gives them back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.allocation import BlockAllocator
from coil.domain.level import (
    expected,
    low_water,
    missing_blocks,
    stay_seconds,
    surplus_blocks,
)
from coil.domain.names import PoolName
from coil.domain.pool import Pool, parse_subnet

BITS = st.integers(0, 8)
MANY = st.integers(0, 2000)
EXPECTED = st.integers(0, 110)
LONG_AGO, NOW = 0.0, 1000.0


def pool(bits: int = 5, subnet: str = "10.0.0.0/8", *, cool_down: int = 130) -> Pool:
    return Pool(PoolName("p"), (parse_subnet(subnet),), bits, cool_down)


def blocks(taken_at: list[float], *, size: int = 32) -> list[BlockAllocator]:
    """Blocks in which an address was taken at each of these times, in order."""
    made = [BlockAllocator(size) for _ in range(1 + len(taken_at) // size)]
    for number, at in enumerate(taken_at):
        assert made[number // size].allocate(at, 130) is not None
    return made


@pytest.mark.parametrize(
    ("free", "waiting", "want", "blocks"),
    [
        (16, 0, 0, 0),
        (16, 0, 110, 0),  # however many are expected: not before low water
        (15, 0, 0, 1),
        (0, 0, 0, 1),
        (0, 16, 0, 1),
        (0, 17, 0, 2),
        (0, 100, 0, 4),
        (0, 9999, 0, 16),
        (15, 0, 31, 1),
        (15, 0, 32, 2),
        (15, 0, 93, 3),
    ],
)
def test_a_node_claims_for_who_waits_who_is_expected_and_half_a_block_ahead(
    free: int, waiting: int, want: int, blocks: int
) -> None:
    assert missing_blocks(pool(), free=free, waiting=waiting, expected=want) == blocks


@pytest.mark.parametrize(
    ("old", "new", "waiting", "want"),
    [
        (0, 9, 0, 0),  # pods come slowly
        (100, 9, 0, 0),
        (0, 10, 0, 100),
        (20, 17, 0, 73),
        (0, 0, 10, 100),  # who waits counts as who came
        (50, 60, 0, 0),  # the node is full
        (50, 200, 0, 0),
    ],
)
def test_in_a_burst_a_full_node_is_expected(old: int, new: int, waiting: int, want: int) -> None:
    there = blocks([LONG_AGO] * old + [NOW] * new)
    assert expected(pool(), there, now=NOW, waiting=waiting) == want


def test_a_burst_is_over_when_nothing_was_taken_for_a_while() -> None:
    there = blocks([NOW] * 40)
    assert expected(pool(), there, now=NOW + 4, waiting=0) == 70
    assert expected(pool(), there, now=NOW + 5, waiting=0) == 0


def test_pods_that_have_gone_again_are_no_burst() -> None:
    there = blocks([NOW] * 20)
    for offset in range(11):
        there[0].free(offset, NOW)
    assert expected(pool(), there, now=NOW) == 0


@pytest.mark.parametrize(("subnet", "want"), [("10.0.0.0/26", 0), ("10.0.0.0/18", 64)])
def test_of_a_small_pool_nobody_claims_much_for_a_burst(subnet: str, want: int) -> None:
    assert expected(pool(subnet=subnet), blocks([NOW] * 17), now=NOW) == want


class Node:
    """A node that claims and gives back by the rule, and counts what that takes."""

    def __init__(self, made: Pool) -> None:
        self.pool = made
        self.blocks = [BlockAllocator(made.block_size)]
        self.transactions = self.claimed = 0

    def free(self, now: float) -> int:
        return sum(each.free_count(now, self.pool.cool_down) for each in self.blocks)

    def add(self, now: float) -> None:
        assert any(each.allocate(now, self.pool.cool_down) is not None for each in self.blocks)
        want = expected(self.pool, self.blocks, now=now)
        claimed = missing_blocks(self.pool, free=self.free(now), expected=want)
        self.blocks += [BlockAllocator(self.pool.block_size) for _ in range(claimed)]
        self.claimed += claimed
        self.transactions += claimed > 0

    def give_back(self, now: float) -> None:
        stay = stay_seconds(self.pool)
        idle = [each for each in self.blocks if each.is_idle(now, stay)]
        want = expected(self.pool, self.blocks, now=now)
        count = surplus_blocks(self.pool, free=self.free(now), idle=len(idle), expected=want)
        self.blocks = [each for each in self.blocks if each not in idle[::-1][:count]]
        self.transactions += count > 0


@given(pods=st.integers(0, 400), every=st.sampled_from([0.0, 0.01, 0.1, 0.25]))
def test_a_burst_costs_no_more_than_a_transaction_per_block(pods: int, every: float) -> None:
    """Pods come to a quiet node, stay, and go: giving back is among the transactions."""
    node, now = Node(pool()), NOW
    for _ in range(pods):
        now += every
        node.add(now)
        node.give_back(now)
    node.give_back(now + 5)
    quiet = pods - 32 + low_water(node.pool)
    assert len(node.blocks) <= max(2, 2 + -(-quiet // 32))
    for each in node.blocks:
        for offset in each.used:
            each.free(offset, now + 5)
    node.give_back(now + 200)
    assert len(node.blocks) == 1
    assert node.transactions <= node.claimed


@given(pods=st.integers(0, 400), every=st.floats(0.6, 60))
def test_a_node_on_which_pods_come_slowly_never_claims_for_a_burst(pods: int, every: float) -> None:
    node = Node(pool())
    for number in range(pods):
        node.add(NOW + number * every)
    assert node.transactions == node.claimed


@pytest.mark.parametrize("cool_down", [0, 1])
def test_pods_that_come_again_at_once_find_the_blocks_still_there(cool_down: int) -> None:
    node, now = Node(pool(subnet="10.0.0.0/20", cool_down=cool_down)), NOW
    for _wave in range(5):
        for _ in range(40):
            node.add(now)
        now += 2
        for each in node.blocks:
            for offset in each.used:
                each.free(offset, now)
        now += 1
        node.give_back(now)
    assert node.transactions == 1
    node.give_back(now + 5)
    assert len(node.blocks) == 1


@pytest.mark.parametrize(
    ("free", "idle", "blocks"), [(64, 2, 1), (47, 2, 0), (48, 2, 1), (96, 1, 0), (320, 10, 9)]
)
def test_of_idle_blocks_one_stays_and_low_water_holds(free: int, idle: int, blocks: int) -> None:
    assert surplus_blocks(pool(), free=free, idle=idle) == blocks


@given(bits=BITS, free=MANY, want=EXPECTED)
def test_what_a_claim_brought_is_never_surplus(bits: int, free: int, want: int) -> None:
    made = pool(bits)
    claimed = missing_blocks(made, free=free, expected=want)
    after = free + claimed * made.block_size
    if claimed:
        # Blocks that were idle before count among those that were free.
        idle = after // made.block_size
        assert surplus_blocks(made, free=after, idle=idle, expected=want) == 0
    if claimed < 16:
        assert after >= low_water(made)


@given(bits=BITS, used_blocks_free=MANY, idle=st.integers(0, 50), want=EXPECTED)
def test_giving_back_leaves_enough_and_is_done_in_one_go(
    bits: int, used_blocks_free: int, idle: int, want: int
) -> None:
    made = pool(bits)
    free = used_blocks_free + idle * made.block_size
    given_back = surplus_blocks(made, free=free, idle=idle, expected=want)
    assert 0 <= given_back <= max(0, idle - 1)
    after = free - given_back * made.block_size
    if given_back:
        assert missing_blocks(made, free=after, expected=want) == 0
    assert surplus_blocks(made, free=after, idle=idle - given_back, expected=want) == 0


@given(free=MANY, waiting=st.integers(0, 50), idle=st.integers(0, 50))
def test_a_cordoned_pool_claims_nothing_and_gives_all_back(
    free: int, waiting: int, idle: int
) -> None:
    made = replace(pool(), cordoned=True)
    assert missing_blocks(made, free=free, waiting=waiting) == 0
    assert surplus_blocks(made, free=free, idle=idle) == idle
