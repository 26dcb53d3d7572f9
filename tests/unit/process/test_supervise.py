"""One group of tasks per process."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from coil.process.supervise import TaskEnded, supervise


def run(*eternal, name="task"):
    """A process of these tasks, which otherwise waits for a signal."""

    async def main(supervisor):
        for function in eternal:
            supervisor.spawn(name, function)
        await supervisor.wait_stopping()

    asyncio.run(supervise(main))


async def returns():
    return None


async def fails():
    raise ZeroDivisionError


async def waits_for_something_cancelled():
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


def test_an_eternal_task_that_returns_ends_the_process():
    with pytest.raises(TaskEnded, match="short"):
        run(returns, name="short")


def test_an_eternal_task_that_awaits_something_cancelled_ends_the_process():
    with pytest.raises(TaskEnded, match="lost"):
        run(waits_for_something_cancelled, name="lost")


def test_a_failing_task_ends_the_process_with_its_own_error():
    with pytest.raises(ZeroDivisionError):
        run(fails)


def test_a_failing_task_cancels_the_others_and_none_of_them_is_blamed():
    ended = []

    async def eternal():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ZeroDivisionError):
        run(eternal, fails)
    assert ended == [True]


def test_several_failures_are_all_told():
    async def fails_while_it_is_ended():
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        run(fails_while_it_is_ended, fails)
    assert {type(exc) for exc in caught.value.exceptions} == {ZeroDivisionError, LookupError}


def test_an_error_of_the_main_coroutine_ends_the_process_with_it():
    async def main(supervisor):
        supervisor.spawn("eternal", asyncio.Event().wait)
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(supervise(main))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_main_coroutine_finish_and_then_cancels_what_was_spawned(number):
    order = []

    async def eternal():
        try:
            await asyncio.Event().wait()
        finally:
            order.append("task cancelled")

    async def main(supervisor):
        supervisor.spawn("eternal", eternal)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        await supervisor.wait_stopping()
        await asyncio.sleep(0)
        order.append("main finished")

    asyncio.run(supervise(main))
    assert order == ["main finished", "task cancelled"]


def test_stop_is_like_a_signal_and_idempotent():
    async def main(supervisor):
        supervisor.stop()
        supervisor.stop()
        await supervisor.wait_stopping()

    asyncio.run(supervise(main))
