"""The store's own thread: jobs one after another and, while somebody watches, looks for changes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Changes:
    """Wakes watchers, from any thread and in the event loop of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def watched(self) -> bool:
        """Whether anybody would be woken."""
        return bool(self._watchers)

    @contextmanager
    def subscribed(self) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set after each change."""
        watcher = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._watchers.add(watcher)
        try:
            yield watcher[1]
        finally:
            with self._lock:
                self._watchers.discard(watcher)

    def notify(self) -> None:
        """Something changed."""
        with self._lock:
            watchers = list(self._watchers)
        for loop, event in watchers:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop was closed without the watch being ended
                with self._lock:
                    self._watchers.discard((loop, event))


class Worker:
    """A thread. ``poll`` is called every ``interval`` seconds while ``changes`` is watched."""

    def __init__(
        self,
        *,
        name: str,
        changes: Changes,
        poll: Callable[[], bool],
        interval: float,
        at_end: Callable[[], None],
    ) -> None:
        self._changes = changes
        self._poll = poll
        self._interval = interval
        self._at_end = at_end
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # nobody may cancel the end
        self._stopping = False
        self._process = os.getpid()
        # A daemon thread: a program that ends without closing must not hang. What was committed is
        # on the disk, and what was not is undone by whoever opens the file next.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run ``job`` after all that were submitted before; cancelled in time it never runs."""
        if os.getpid() != self._process:
            raise RuntimeError("a store cannot be used in a process forked after it was opened")
        if self._stopping:
            raise RuntimeError("the store is closed")
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = job()
            except BaseException as exc:  # noqa: BLE001 - the caller's, whatever it is
                future.set_exception(exc)
            else:
                future.set_result(result)

        self._jobs.put(run)
        return future

    def stop(self) -> Future[None]:
        """End the thread after the jobs submitted so far; done when it is through. Idempotent."""
        if not self._stopping:
            self._stopping = True
            self._jobs.put(None)
        return self._ended

    def _run(self) -> None:
        next_poll = 0.0
        while True:
            try:
                job = self._jobs.get(timeout=self._patience(next_poll))
                if job is None:
                    break
                job()
                del job  # else its arguments would live until the next one
            except Empty:
                pass
            if self._changes.watched and time.monotonic() >= next_poll:
                next_poll = time.monotonic() + self._interval
                if self._poll():
                    self._changes.notify()
        try:
            self._at_end()
        finally:
            self._ended.set_result(None)

    def _patience(self, next_poll: float) -> float | None:
        """How long the next job may be waited for: until the next poll, or for ever."""
        if not self._changes.watched:
            return None
        return max(0.0, next_poll - time.monotonic())
