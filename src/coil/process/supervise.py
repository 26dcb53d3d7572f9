"""One group of tasks per process: eternal tasks may not end, a signal ends them all.

The only place that makes tasks which outlive a request.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TaskEnded(RuntimeError):
    """An eternal task returned. The process ends, so that its manager starts it anew."""


class Supervisor:
    """Handed to the main coroutine by ``supervise``."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def spawn(self, name: str, eternal: Callable[[], Awaitable[None]]) -> None:
        """Run a task that must not end before the process does."""
        self._tasks.append(self._group.create_task(_guard(name, eternal), name=name))

    async def wait_stopping(self) -> None:
        """Wait for SIGTERM or SIGINT."""
        await self._stopping.wait()

    def stop(self) -> None:
        """As if a signal had come; idempotent."""
        self._stopping.set()

    @staticmethod
    def on_resume(at_once: Callable[[], None], then: Callable[[], None]) -> None:
        """Call both when the process is let go on after a SIGSTOP.

        ``at_once`` before the main thread does anything else, even in the midst of a task: it may
        but set what is safe to set there. ``then`` as a callback of the loop.
        """
        loop = asyncio.get_running_loop()

        def handle(_number: int, _frame: FrameType | None) -> None:
            at_once()
            loop.call_soon_threadsafe(then)

        # The loop's own handlers wait for its next turn, behind requests that came meanwhile.
        signal.signal(signal.SIGCONT, handle)
        signal.siginterrupt(signal.SIGCONT, False)  # noqa: FBT003 - takes no keyword

    def end_tasks(self) -> None:
        """Cancel what was spawned."""
        for task in self._tasks:
            task.cancel()


async def supervise(main: Callable[[Supervisor], Awaitable[None]]) -> None:
    """Run ``main``; a failure in it or in a task it spawned ends all and is raised.

    A single failure is raised as itself, several as an ExceptionGroup.
    """
    try:
        async with asyncio.TaskGroup() as group:
            supervisor = Supervisor(group)
            loop = asyncio.get_running_loop()
            for number in _SIGNALS:
                loop.add_signal_handler(number, supervisor.stop)
            try:
                await main(supervisor)
            finally:
                supervisor.end_tasks()
    except ExceptionGroup as exc:
        raise _single(exc) from None


def _single(exc: Exception) -> Exception:
    """Take the one failure out of groups (a server has tasks of its own) around it."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


async def _guard(name: str, eternal: Callable[[], Awaitable[None]]) -> None:
    try:
        await eternal()
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled us: what it waited for was cancelled. A TaskGroup would not mind.
        raise TaskEnded(f"task {name!r} was left by a cancelled wait") from exc
    raise TaskEnded(f"task {name!r} ended")
