"""A thread's work is awaited to its end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress

import pytest

from coil.daemon.workers import unstoppable


async def waiting(work, seen):
    try:
        seen.append(await unstoppable(work))
    except BaseException as exc:
        seen.append(type(exc))
        raise


async def turns():
    for _turn in range(5):
        await asyncio.sleep(0)


def end(work):
    work.set_result("made")


def fail(work):
    work.set_exception(OSError("no"))


@pytest.mark.parametrize(("ending", "known"), [(end, "made"), (fail, OSError)])
def test_the_outcome_is_that_of_the_work(ending, known):
    async def main():
        work, seen = Future(), []
        task = asyncio.ensure_future(waiting(work, seen))
        await turns()
        await asyncio.to_thread(ending, work)
        with suppress(OSError):
            await task
        return seen

    assert asyncio.run(main()) == [known]


@pytest.mark.parametrize("ending", [end, fail])
def test_a_cancelled_wait_lasts_until_the_work_has_ended(ending):
    async def main():
        work, seen = Future(), []
        task = asyncio.ensure_future(waiting(work, seen))
        await turns()
        task.cancel()
        await turns()
        assert not seen
        ending(work)
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert asyncio.run(main()) == [asyncio.CancelledError]


def test_a_deadline_is_told_when_the_work_has_ended():
    async def main():
        work = Future()
        asyncio.get_running_loop().call_later(0.05, end, work)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await unstoppable(work)
        return work.done()

    assert asyncio.run(main())
