"""The store's own thread: jobs one after another."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """A thread that does what it is given, and ``at_end`` last."""

    def __init__(self, *, name: str, at_end: Callable[[], None]) -> None:
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
        while (job := self._jobs.get()) is not None:
            job()
            del job  # else its arguments would live until the next one
        try:
            self._at_end()
        finally:
            self._ended.set_result(None)
