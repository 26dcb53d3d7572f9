"""The rule of choice: never used first, then the one free longest, never a cooling one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coil.domain.allocation import BlockAllocator


def test_offsets_that_were_never_used_come_in_ascending_order() -> None:
    allocator = BlockAllocator(4)
    assert [allocator.allocate(0, 130) for _ in range(5)] == [0, 1, 2, 3, None]


def test_the_one_free_longest_comes_first_and_only_after_the_cool_down() -> None:
    allocator = BlockAllocator(2)
    first, second = allocator.allocate(0, 130), allocator.allocate(0, 130)
    assert (first, second) == (0, 1)
    allocator.free(1, 10)
    allocator.free(0, 20)
    assert allocator.allocate(139.9, 130) is None
    assert allocator.allocate(140, 130) == 1
    assert allocator.allocate(140, 130) is None
    assert allocator.allocate(150, 130) == 0


def test_a_never_used_offset_is_preferred_to_one_that_has_cooled() -> None:
    allocator = BlockAllocator(3)
    allocator.allocate(0, 0)
    allocator.free(0, 1)
    assert [allocator.allocate(1000, 0) for _ in range(3)] == [1, 2, 0]


def test_what_was_taken_since_a_moment_is_counted_while_it_is_in_use() -> None:
    allocator = BlockAllocator(8, used=[0, 1])
    for at in (10, 20, 20, 30):
        allocator.allocate(at, 0)
    allocator.hold(7)  # known late, and taken who knows when
    assert [allocator.taken_since(moment) for moment in (0, 10, 20, 30)] == [4, 3, 1, 0]
    allocator.free(5, 40)
    allocator.cancel(2)
    assert [allocator.taken_since(moment) for moment in (0, 10, 20)] == [2, 2, 0]
    assert allocator.allocate(50, 0) == 2
    assert allocator.taken_since(40) == 1


def test_what_the_journal_says_is_where_it_goes_on() -> None:
    allocator = BlockAllocator(5, used=[0, 4], freed={2: 50.0, 1: 60.0})
    assert allocator.used == {0, 4}
    assert allocator.freed == {2: 50.0, 1: 60.0}
    assert [allocator.allocate(1000, 130) for _ in range(4)] == [3, 2, 1, None]


def test_a_cancelled_offset_is_free_at_once() -> None:
    allocator = BlockAllocator(1)
    allocator.allocate(0, 130)
    allocator.cancel(0)
    assert allocator.free_count(0, 130) == 1
    assert allocator.allocate(0, 130) == 0


def test_offsets_of_unknown_past_cool_from_when_they_are_retired() -> None:
    allocator = BlockAllocator(3, used=[1])
    allocator.retire_fresh(100)
    assert allocator.cooling(229, 130) == {0: 230, 2: 230}
    assert allocator.allocate(229, 130) is None
    assert allocator.free_count(229, 130) == 0
    assert {allocator.allocate(230, 130), allocator.allocate(230, 130)} == {0, 2}


def test_only_a_block_without_used_and_cooling_offsets_is_idle() -> None:
    allocator = BlockAllocator(2)
    assert allocator.is_idle(0, 130)
    allocator.allocate(0, 130)
    assert not allocator.is_idle(0, 130)
    allocator.free(0, 10)
    assert not allocator.is_idle(139, 130)
    assert allocator.is_idle(140, 130)


@pytest.mark.parametrize(
    ("used", "freed"), [([4], {}), ([-1], {}), ([], {4: 0.0}), ([], {-1: 0.0}), ([1], {1: 0.0})]
)
def test_a_past_that_cannot_be_is_refused(used: list[int], freed: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="offset"):
        BlockAllocator(4, used=used, freed=freed)


@pytest.mark.parametrize("give_back", ["free", "cancel"])
def test_what_is_not_in_use_cannot_be_given_back(give_back: str) -> None:
    allocator = BlockAllocator(2, used=[0], freed={1: 0.0})
    for offset in (1, 2, -1):
        with pytest.raises(KeyError):
            allocator.free(offset, 5) if give_back == "free" else allocator.cancel(offset)
    assert allocator.used == {0}


@given(
    size=st.integers(1, 64), frees=st.lists(st.integers(0, 63), unique=True), cool=st.integers(0, 9)
)
def test_a_full_block_gives_each_freed_offset_once_in_the_order_they_were_freed(
    size: int, frees: list[int], cool: int
) -> None:
    allocator = BlockAllocator(size, used=range(size))
    freed = [offset for offset in frees if offset < size]
    for now, offset in enumerate(freed):
        allocator.free(offset, now)
    end = len(freed) + cool
    assert [allocator.allocate(end, cool) for _ in freed] == freed
    assert allocator.allocate(end, cool) is None


class AllocatorAgainstReference(RuleBasedStateMachine):
    """Any history of calls, next to a reference that keeps one record per offset and searches."""

    @initialize(size=st.integers(1, 12), cool_down=st.sampled_from([0, 1, 3, 130]))
    def start(self, size: int, cool_down: int) -> None:
        self.size = size
        self.cool_down = cool_down
        self.now = 0.0
        self.allocator = BlockAllocator(size)
        self.used: set[int] = set()
        self.freed: dict[int, float] = {}
        self.cancelled = False

    def never_used(self) -> list[int]:
        return [o for o in range(self.size) if o not in self.used and o not in self.freed]

    def cooled(self) -> list[int]:
        return [o for o, at in self.freed.items() if at + self.cool_down <= self.now]

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def allocate(self) -> None:
        offset = self.allocator.allocate(self.now, self.cool_down)
        fresh, cooled = self.never_used(), self.cooled()
        if offset is None:
            assert not [*fresh, *cooled], "an offset was free"
            return
        assert offset not in self.used, "given twice"
        if fresh:
            assert offset in fresh, "a used one was given while another was never used"
            assert self.cancelled or offset == fresh[0]
        else:
            assert offset in cooled, "given while it was cooling"
            assert self.freed[offset] == min(self.freed.values()), "another was free for longer"
        self.freed.pop(offset, None)
        self.used.add(offset)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.used)))
        self.allocator.free(offset, self.now)
        self.used.remove(offset)
        self.freed[offset] = self.now

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.used)))
        self.allocator.cancel(offset)
        self.used.remove(offset)
        self.cancelled = True

    @rule()
    def retire_fresh(self) -> None:
        self.allocator.retire_fresh(self.now)
        self.freed |= dict.fromkeys(self.never_used(), self.now)

    @rule()
    def restart(self) -> None:
        in_no_order_of_time = dict(sorted(self.freed.items()))
        self.allocator = BlockAllocator(self.size, used=self.used, freed=in_no_order_of_time)
        self.cancelled = False

    @invariant()
    def books_agree(self) -> None:
        cooling = {
            o: at + self.cool_down for o, at in self.freed.items() if at + self.cool_down > self.now
        }
        free = len(self.never_used()) + len(self.cooled())
        allocator, now, cool_down = self.allocator, self.now, self.cool_down
        assert allocator.used == self.used
        assert allocator.used_count == len(self.used)
        assert allocator.freed == self.freed
        assert allocator.cooling(now, cool_down) == cooling
        assert allocator.free_count(now, cool_down) == free
        assert allocator.used_count + len(cooling) + free == self.size
        assert allocator.is_idle(now, cool_down) == (free == self.size)


AllocatorAgainstReference.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestAllocatorAgainstReference = AllocatorAgainstReference.TestCase
