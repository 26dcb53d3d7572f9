"""One process's hold on the store's file: transactions, and what happens to the file meanwhile.

Everything here runs in the store's own thread.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from coil.domain.errors import ConfigError
from coil.store.errors import StoreUnavailable
from coil.store.sqlite.errors import is_busy, mapped_sqlite_errors
from coil.store.sqlite.file import FileId, file_id, open_file
from coil.store.sqlite.records import Records

T = TypeVar("T")
Work = Callable[[Records], T]
_ASK_SECONDS = 0.002
"""Between two questions whether the lock is free, where a transaction takes about as long."""


class Session:
    """Opens the file when it is needed, and anew when it failed, was deleted or replaced."""

    def __init__(self, path: Path, *, busy_seconds: float) -> None:
        self.path = path
        self.recovered_from: Path | None = None
        """Where this process moved a damaged file, if it did."""
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._file_id: FileId | None = None
        self._told: set[str] = set()

    def open(self) -> None:
        """Open and check the file unless it is open. Raises ConfigError, StoreError."""
        with mapped_sqlite_errors(self.path):
            self._connected()

    def read(self, work: Work[T]) -> T:
        """Run ``work`` on one state of the store. Raises StoreError and what ``work`` raises."""
        with self._failing(), self._transaction("DEFERRED") as records:
            return work(records)

    def read_settled(self, work: Work[T]) -> T:
        """As ``read``, of a state with all in it that any process has begun to write.

        The kernel tells of a write before it can be read: the log's frames come first, then the
        index that makes them count, which is mapped. A writer has the lock from before the one
        until after the other (https://www.sqlite.org/walformat.html).
        """
        with self._failing(), self._transaction("IMMEDIATE") as records:
            return work(records)

    def write(self, work: Work[T]) -> T:
        """Run ``work`` alone and keep what it did, or nothing when it raises.

        Raises StoreError and what ``work`` raises.
        """
        with self._failing():
            with self._transaction("IMMEDIATE") as records:
                result = work(records)
            if self._is_moved():
                # Others use another file by now, and will never see what was just written.
                raise StoreUnavailable(
                    f"store {self.path} was replaced during a write", path=str(self.path)
                )
            return result

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Translate errors; after one of SQLite's begin anew with a checked connection."""
        try:
            with mapped_sqlite_errors(self.path):
                yield
        except ConfigError as exc:
            # A place that was good when the process started may be good again.
            raise StoreUnavailable(exc.message, **exc.fields) from exc
        except BaseException as exc:
            if isinstance(exc.__cause__, sqlite3.DatabaseError) and not is_busy(exc.__cause__):
                self.close()
            raise

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[Records]:
        connection = self._connected()
        self._begin(connection, kind)
        try:
            yield Records(connection, self.path, self._told)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _begin(self, connection: sqlite3.Connection, kind: str) -> None:
        """Begin as soon as nobody else is at it.

        SQLite's own wait is soon down to ten questions a second, and would hardly ever meet the
        moment between two transactions of a process that writes without a pause.
        """
        deadline = time.monotonic() + self._busy_seconds
        pause = threading.Event()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while not _may_begin(connection, kind, last=time.monotonic() > deadline):
                pause.wait(_ASK_SECONDS)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(self._busy_seconds * 1000)}")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and not self._is_moved():
            return self._connection
        self.close()
        target = Path(os.path.realpath(self.path))
        opened = open_file(target, busy_seconds=self._busy_seconds)
        self._connection, self._file_id = opened.connection, opened.file_id
        self.recovered_from = opened.kept_aside or self.recovered_from
        return self._connection

    def _is_moved(self) -> bool:
        return file_id(self.path) != self._file_id


def _may_begin(connection: sqlite3.Connection, kind: str, *, last: bool) -> bool:
    """Begin a transaction; False while somebody else is at it, which raises if ``last``."""
    try:
        connection.execute(f"BEGIN {kind}")
    except sqlite3.OperationalError as exc:
        if last or not is_busy(exc):
            raise
        return False
    return True
