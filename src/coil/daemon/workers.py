"""Who carries out kernel and journal steps: threads, each with a netlink socket, or the loop.

A thread that cannot come back from a pod's namespace is never used again; another takes its place.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.netns import NetnsStuck

T = TypeVar("T")
_Job = Callable[[NetlinkSocket], None]
_log = structlog.get_logger()

THREADS = 4
"""Steps wait for nothing but the kernel, whose own lock (rtnl) lets about one make progress at a
time; more threads were slower when a hundred pods came at once."""


class Workers:
    """A fixed number of worker threads in the namespace of the caller."""

    def __init__(self, threads: int = THREADS) -> None:
        """Starts the threads in the namespace of the caller, which runs the loop."""
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self.netlink = NetlinkSocket()
        """For steps on the loop's own thread: those that wait for nothing but the kernel's own
        locks (adr/0006)."""
        for number in range(threads):
            self._start(number)

    async def run(self, step: Callable[[NetlinkSocket], T]) -> T:
        """Run ``step`` in a thread and return what it returns.

        A step that has begun is never abandoned: cancellation waits for its end, then propagates.
        """
        loop = self._loop
        future: Unstoppable[T] = Unstoppable(loop=loop)

        def job(netlink: NetlinkSocket) -> None:
            try:
                result = step(netlink)
            except NetnsStuck as exc:
                lost = RuntimeError("a thread is lost in a pod's namespace")
                loop.call_soon_threadsafe(future.set_exception, lost)
                raise exc from None
            except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
                loop.call_soon_threadsafe(future.set_exception, exc)
            else:
                loop.call_soon_threadsafe(future.set_result, result)

        self._jobs.put(job)
        return await future

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self.netlink.close()
        threads = list(self._threads)
        for _thread in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    def _start(self, number: int) -> None:
        thread = threading.Thread(
            target=self._work, args=(number,), name=f"worker-{number}", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    def _work(self, number: int) -> None:
        with NetlinkSocket() as netlink:
            while (job := self._jobs.get()) is not None:
                try:
                    job(netlink)
                except NetnsStuck:
                    _log.error("thread lost in a namespace", worker=number)
                    self._threads.discard(threading.current_thread())
                    # By the loop's thread: a thread starts in the namespace of its maker.
                    self._loop.call_soon_threadsafe(self._start, number)
                    return


class Unstoppable(asyncio.Future[T]):
    """A thread's work: whoever awaits it and is cancelled meanwhile learns of that at its end."""

    def cancel(self, msg: object = None) -> bool:
        """Refuse; the awaiting task's cancellation then waits for this future (Task.cancel())."""
        del msg
        return False


def unstoppable(work: concurrent.futures.Future[T]) -> Unstoppable[T]:
    """``work`` for the loop that runs here. asyncio's wrap_future() and shield() cost two turns."""
    loop = asyncio.get_running_loop()
    future: Unstoppable[T] = Unstoppable(loop=loop)

    def settle(done: concurrent.futures.Future[T]) -> None:
        failure = done.exception()
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(done.result())

    # Not ``work`` itself, which holds the function: a cycle, which would wait for the collector.
    work.add_done_callback(lambda done: loop.call_soon_threadsafe(settle, done))
    return future
