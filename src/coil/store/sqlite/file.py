"""Opens the file of the embedded store: makes it, recognises it, keeps a damaged one aside.

One process at a time opens, makes or moves a store's file; a lock file beside it sees to that. The
lock file stays, and its text is the proof that coil once made the file next to it: a file that
cannot be read and has no such proof is somebody else's, and is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from coil.domain.errors import ConfigError
from coil.store.errors import StoreCorrupt, StoreUnavailable
from coil.store.sqlite import schema
from coil.store.sqlite.errors import is_damage
from coil.store.sqlite.schema import Damaged, Kind

_log = structlog.get_logger()

_SIDE_FILES = ("-wal", "-shm")
_LOCK_RETRY_SECONDS = 0.02
_PROOF = b"The file beside this one is a store of coil. Leave this file here: it is its lock.\n"
_MAY_PASS = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ESTALE,
    }
)
"""What an operating system refuses at one moment and grants at another."""

FileId = tuple[int, int]
"""Device and inode: what tells a file from a later one of the same name."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked connection."""

    connection: sqlite3.Connection
    file_id: FileId
    kept_aside: Path | None
    """Where a damaged file was moved to make room for this new one."""


def file_id(path: Path) -> FileId | None:
    """Identity of the file that has this name now, None when none has."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def lock_path(path: Path) -> Path:
    """The lock file of the store in ``path``."""
    return path.with_name(f".{path.name}.coil-lock")


def open_file(path: Path, *, busy_seconds: float) -> Opened:
    """Open the store in ``path`` (absolute), making directory and file where there is none.

    A damaged store is moved to ``NAME.corrupt-TIME`` and a new one is made, with a new identity.
    Raises ConfigError for a place that cannot hold a store, StoreCorrupt for a file that is
    another program's or a newer coil's, StoreUnavailable or sqlite3.Error for what may pass.
    """
    with _refusals(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path, busy_seconds) as lock:
            return _open_locked(path, lock, busy_seconds)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Say in words of ours what the operating system refuses."""
    try:
        yield
    except OSError as exc:
        reason = f"cannot use {path} as a store: {exc.filename or path}: {exc.strerror}"
        if exc.errno in _MAY_PASS or (exc.errno == errno.EROFS and _was_made(path)):
            raise StoreUnavailable(reason, path=str(path)) from exc
        raise ConfigError(
            f"{reason}; name a file in a directory that may be written", path=str(path)
        ) from exc


def _was_made(path: Path) -> bool:
    """Whether there is the proof of a store of coil: what held one will do so again."""
    try:
        return lock_path(path).stat().st_size > 0
    except OSError:
        return False


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[int]:
    """Hold the lock file; yields its descriptor."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while (lock := _try_lock(lock_path(path))) is None:
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"another process has been opening store {path} for {seconds:g} s", path=str(path)
            )
        pause.wait(_LOCK_RETRY_SECONDS)
    try:
        yield lock
    finally:
        os.close(lock)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when somebody else has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock)
        # Whoever refuses a file that is not ours takes its lock file away again.
        if file_id(path) == (held.st_dev, held.st_ino):
            return lock
    except BlockingIOError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _open_locked(path: Path, lock: int, busy_seconds: float) -> Opened:
    proven = os.fstat(lock).st_size > 0
    try:
        # Under the lock: without it, a file that another process keeps aside just now is one that
        # is there at one look and not at the next.
        _refuse_unusable(path)
        _make_if_absent(path, lost=proven)
        connection, kept_aside = _connect_or_replace(path, busy_seconds, proven=proven)
    except BaseException:
        if not proven:
            lock_path(path).unlink(missing_ok=True)
        raise
    try:
        if not proven:
            os.write(lock, _PROOF)
        found = path.stat()
    except BaseException:
        connection.close()
        raise
    return Opened(connection, (found.st_dev, found.st_ino), kept_aside)


def _refuse_unusable(path: Path) -> None:
    """Raise ConfigError for what has the name and can be no store, whatever is in it.

    Raises OSError where the file alone is mounted read-only.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is not a file; a store is one file", path=str(path))
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    if not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(
            f"{path} may not be read and written; check its permissions", path=str(path)
        )


def _connect_or_replace(
    path: Path, busy_seconds: float, *, proven: bool
) -> tuple[sqlite3.Connection, Path | None]:
    """A connection, and where a damaged file went to make room for the one it is to."""
    kept_aside: Path | None = None
    while True:
        connection = _connect(path, busy_seconds)
        try:
            _check(connection, path)
        except Damaged as exc:
            with contextlib.closing(connection):
                _refuse(path, exc, proven=proven, is_new=kept_aside is not None)
                # Before the connection is closed: the close would write the log into a file that
                # has not been moved.
                kept_aside = _keep_aside(path, reason=str(exc))
            _make_if_absent(path, lost=False)
        except BaseException:
            connection.close()
            raise
        else:
            return connection, kept_aside


def _refuse(path: Path, damage: Damaged, *, proven: bool, is_new: bool) -> None:
    """Raise if a damaged file is not one to keep aside."""
    if is_new:
        raise StoreUnavailable(
            f"new store {path} is damaged already ({damage}): check the disk", path=str(path)
        ) from damage
    if not damage.ours and not proven:
        raise StoreCorrupt(
            f"{path} is not a store of coil ({damage}), and nothing shows that it was one; "
            "name another file, or move this one away",
            path=str(path),
        ) from damage


def _make_if_absent(path: Path, *, lost: bool) -> None:
    """Make an empty file nobody else may read, unless there is one."""
    if path.exists():
        return
    # They belong to a file that is gone; beside a new one they would be taken for its own.
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if lost:
        _log.error("store was removed; a new one is made", path=str(path))


def _connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_seconds, isolation_level=None
    )
    # A name that is not UTF-8 is a bad name, refused where names are read.
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of an empty database; raise Damaged for one that cannot be read."""
    ours = False
    try:
        kind = schema.recognise(connection, path)
        ours = kind is Kind.OURS
        _set_up(connection, path)
        if kind is Kind.EMPTY:
            connection.execute("BEGIN IMMEDIATE")
            schema.make(connection)
            connection.execute("COMMIT")
        schema.verify(connection)
    except sqlite3.DatabaseError as exc:
        if is_damage(exc):
            raise Damaged(str(exc), ours=ours) from exc
        raise


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(
            f"the file system of {path} cannot share memory between processes; name a file on a "
            "local one",
            path=str(path),
        )
    # A claim must outlive a power loss, else a block would get a second owner: one fsync each.
    connection.execute("PRAGMA synchronous = FULL")


def _keep_aside(path: Path, *, reason: str) -> Path:
    """Move the file and what belongs to it out of the way, under a name that tells when."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    # The file first: were its log moved first and this process killed, an older state of the file
    # could pass for a good one.
    path.rename(aside)
    for suffix in _SIDE_FILES:
        # Another process that closes the file as its last one removes them.
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _log.error(
        "store could not be read: it was kept aside, and a new one is made",
        path=str(path),
        kept_aside=str(aside),
        reason=reason,
    )
    return aside
