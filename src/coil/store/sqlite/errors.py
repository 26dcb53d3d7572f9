"""What sqlite3 raises becomes an error of the store, here and nowhere else.

By class first: ProgrammingError, InterfaceError, NotSupportedError and DataError are misuse of
sqlite3, so bugs of ours, and pass. The others are told apart by their result code
(https://www.sqlite.org/rescode.html): what may pass by itself is StoreUnavailable, all else says
that the file holds what coil did not write: StoreCorrupt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coil.store.errors import StoreCorrupt, StoreError, StoreUnavailable

BUGS = (
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
    sqlite3.DataError,
)

_TRANSIENT = {
    sqlite3.SQLITE_ABORT: "the operation was broken off",
    sqlite3.SQLITE_AUTH: "access was denied",
    sqlite3.SQLITE_BUSY: "another process holds it; look for one that is stopped",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the directory and its permissions",
    sqlite3.SQLITE_FULL: "no space is left; free some",
    sqlite3.SQLITE_INTERRUPT: "the operation was broken off",
    sqlite3.SQLITE_IOERR: "input or output failed; check the disk, its space and its limits",
    sqlite3.SQLITE_LOCKED: "another process holds it; look for one that is stopped",
    sqlite3.SQLITE_NOLFS: "the file system cannot hold a file of this size",
    sqlite3.SQLITE_NOMEM: "memory ran out",
    sqlite3.SQLITE_PERM: "access was denied",
    sqlite3.SQLITE_PROTOCOL: "too many processes wanted it at once",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_SCHEMA: "its tables were changed meanwhile",
}


def _primary_code(exc: sqlite3.Error) -> int:
    """The result code without its extension; 0 when the exception has none."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def is_damage(exc: sqlite3.DatabaseError) -> bool:
    """Whether the file's content is at fault, not the moment."""
    code = _primary_code(exc)
    if code == 0:
        return not isinstance(exc, sqlite3.OperationalError)
    return code not in _TRANSIENT


def is_busy(exc: sqlite3.DatabaseError) -> bool:
    """Whether somebody else held the lock for too long; the connection is as good as before."""
    return _primary_code(exc) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def translated(path: Path, exc: sqlite3.DatabaseError) -> StoreError:
    """The store's error for ``exc``."""
    if is_damage(exc):
        return StoreCorrupt(
            f"store {path} is damaged ({exc}); when it is used next it is checked, and kept aside "
            "if it cannot be read",
            path=str(path),
        )
    hint = _TRANSIENT.get(_primary_code(exc), "it may work later")
    return StoreUnavailable(f"store {path} cannot be used now ({exc}): {hint}", path=str(path))


@contextmanager
def mapped_sqlite_errors(path: Path) -> Iterator[None]:
    """Raise StoreUnavailable or StoreCorrupt for what sqlite3 raises inside."""
    try:
        yield
    except BUGS:
        raise
    except sqlite3.DatabaseError as exc:
        raise translated(path, exc) from exc
