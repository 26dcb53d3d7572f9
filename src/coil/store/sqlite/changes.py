"""Tells watches that the file of the embedded store may have changed, whoever wrote to it.

The kernel says so (inotify(7)): a machine that rests is not woken to look. Where it has no instance
to give (fs.inotify.max_user_instances: other programs may have used them up) watches look every
second; and every five minutes in any case, for what no event tells (another file system mounted
over the directory).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog
from inotify_simple import INotify, flags

from coil.process.retry import sleep

_log = structlog.get_logger()

_REST_SECONDS = 300.0
_POLL_SECONDS = 1.0
_DIRECTORY = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE_SELF
    | flags.MOVE_SELF
)
_FILES = ("", "-wal")
"""What is written to. The third file, ``-shm``, is mapped: that makes no events."""


class Watcher:
    """One watch's. Belongs to the loop in which it is made; ``close`` it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify()
        except OSError as exc:
            _log.warning("no inotify: looking every second", path=str(path), reason=exc.strerror)
        else:
            self._loop.add_reader(self._inotify, self._drain)

    def close(self) -> None:
        """Idempotent."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify)
            self._inotify.close()
            self._inotify = None

    def renew(self) -> bool:
        """Begin to watch what has the store's names now; what changes after this call is told.

        To be called before each read. Idempotent. False where a name is nobody's.
        """
        self._changed.clear()
        if self._inotify is None:
            return True
        target = Path(os.path.realpath(self._path))
        files = [target.with_name(target.name + ending) for ending in _FILES]
        try:
            self._inotify.add_watch(target.parent, _DIRECTORY)
            for file in files:
                self._inotify.add_watch(file, flags.MODIFY)
        except OSError:
            return False
        return True

    async def wait(self) -> None:
        """Wait until it is time to read again."""
        await sleep(_POLL_SECONDS if self._inotify is None else _REST_SECONDS, self._changed)

    def wake(self) -> None:
        """Have ``wait`` return, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed, the watch not ended
            self._loop.call_soon_threadsafe(self._changed.set)

    def _drain(self) -> None:
        if self._inotify is not None:
            self._inotify.read(timeout=0)
            self._changed.set()


class Watchers:
    """All of one store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[Watcher] = set()

    @contextlib.contextmanager
    def watcher(self, path: Path) -> Iterator[Watcher]:
        """One for the running loop."""
        made = Watcher(path)
        with self._lock:
            self._all.add(made)
        try:
            yield made
        finally:
            with self._lock:
                self._all.discard(made)
            made.close()

    def wake(self) -> None:
        """Wake all of them, from any thread."""
        with self._lock:
            found = list(self._all)
        for each in found:
            each.wake()
