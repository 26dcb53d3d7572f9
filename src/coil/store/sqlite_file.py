"""The SQLite file of the embedded store: made, recognised, kept aside when it cannot be read."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from coil.domain.errors import ConfigError
from coil.store.errors import StoreUnavailable

_log = structlog.get_logger()

APPLICATION_ID = 0x636F696C  # 'coil'
FORMAT = 1
_BUSY_MILLISECONDS = 5000
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pools (name TEXT PRIMARY KEY, spec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    pool TEXT NOT NULL, idx INTEGER NOT NULL, node TEXT NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (pool, idx)
) WITHOUT ROWID;
CREATE INDEX blocks_of_node ON blocks (node);
"""


def connect(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Open the database, making it when it is not there.

    Returns also where a file that could not be read was moved (None: it was fine). Raises
    ConfigError for a place that cannot be used or a file that is somebody else's, sqlite3.Error
    for what may pass (locked, no space).
    """
    with _made_by_one(path):
        try:
            return _open(path), None
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as exc:
            aside = _keep_aside(path)
            _log.error(
                "store could not be read and was kept aside; a new one was made",
                path=str(path),
                kept=str(aside),
                reason=str(exc),
            )
        return _open(path), aside


def inode_of(path: Path) -> int:
    """Identity of the file under that name, 0 when there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A claim must outlive a power loss: another node would be given the block.
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            _check_or_make(connection, path)
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_or_make(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == 0 and version == 0 and tables == 0:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        rows = [("identity", str(uuid.uuid4())), ("revision", "0")]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif application != APPLICATION_ID:
        raise ConfigError(f"{path} is a database of another program; name another file")
    elif version != FORMAT:
        raise ConfigError(
            f"{path} has format {version}, this coil knows {FORMAT}: it was written by a newer "
            "coil; use that one"
        )
    else:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)


@contextmanager
def _made_by_one(path: Path) -> Iterator[None]:
    """Of several processes let one at a time open, make or move the file."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file; name a file in --store sqlite:///PATH")
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as exc:
        raise ConfigError(f"no permission for {exc.filename}; run as root") from exc
    except OSError as exc:
        if isinstance(exc, NotADirectoryError | FileExistsError):
            raise ConfigError(f"{path.parent} is not a directory") from exc
        raise StoreUnavailable(f"cannot open {lock_path}: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _keep_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
