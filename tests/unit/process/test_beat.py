"""Moments that all have in common."""

from __future__ import annotations

import asyncio
import itertools

from coil.process.beat import Beat
from coil.process.together import all_of
from unit.process.clocked import run


async def moments(beat, count):
    found = []
    for _ in range(count):
        await beat.wait()
        found.append(asyncio.get_running_loop().time())
    return found


def test_all_who_wait_are_woken_at_the_same_moments_a_period_apart():
    async def main():
        beat = Beat(0.5)
        return await all_of([moments(beat, 3), moments(beat, 3)])

    first, second = run(main())
    for a, b in zip(first, second, strict=True):
        assert abs(a - b) < 0.125
    for early, late in itertools.pairwise(first):
        assert 0.375 < late - early < 0.625


def test_who_waits_for_the_same_moment_comes_one_after_the_other():
    async def main():
        beat = Beat(3600)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(beat.wait()) for _ in range(8)]
            await asyncio.sleep(0)
            timers = asyncio.get_running_loop()._scheduled  # when they are due, not when they run
            due = sorted(timer.when() for timer in timers)
            for task in waiting:
                task.cancel()
        return due

    due = asyncio.run(main())
    assert len(due) == 8
    for early, late in itertools.pairwise(due):
        assert late - early > 0.02
    assert due[-1] - due[0] < 1


def test_a_beat_is_waited_for_no_longer_than_until_there_is_reason():
    async def main():
        wake = asyncio.Event()
        asyncio.get_running_loop().call_soon(wake.set)
        return await Beat(3600).wait(wake)

    assert asyncio.run(main()) is True


def test_processes_have_beats_of_their_own():
    async def next_beat():
        beat = Beat(0.3)
        await beat.wait()
        return asyncio.get_running_loop().time() % 0.3

    phases = [run(next_beat()) for _ in range(4)]
    assert max(phases) - min(phases) > 0.001
