"""The tables of the embedded store, and how a file is recognised as one."""

from __future__ import annotations

import sqlite3
import uuid
from enum import Enum, auto
from pathlib import Path

from coil.store.errors import StoreCorrupt

APPLICATION_ID = 0x636F6973
"""'cois' in the file's header (https://www.sqlite.org/fileformat2.html, 1.3.18)."""
FORMAT = 1
"""``user_version``: another number is another set of tables, and another coil."""

_TABLES = (
    # One row. The revision counts claims and is never given twice.
    "CREATE TABLE meta (identity TEXT NOT NULL, revision INTEGER NOT NULL) STRICT",
    # Every index of the pool below free_from is claimed: where the search for a free one begins.
    """CREATE TABLE pools (
        name TEXT NOT NULL PRIMARY KEY, spec TEXT NOT NULL, free_from INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE blocks (
        pool TEXT NOT NULL, idx INTEGER NOT NULL CHECK (idx >= 0),
        node TEXT NOT NULL, revision INTEGER NOT NULL,
        PRIMARY KEY (pool, idx)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX blocks_of_node ON blocks (node)",
)
LEADERS = """CREATE TABLE IF NOT EXISTS leaders (
    role TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, boot TEXT NOT NULL, until REAL NOT NULL
) STRICT, WITHOUT ROWID"""
"""Made when somebody first wants to lead: most machines have no controller."""
_COLUMNS = (
    "SELECT identity, revision FROM meta",
    "SELECT name, spec, free_from FROM pools LIMIT 0",
    "SELECT pool, idx, node, revision FROM blocks LIMIT 0",
)


class Kind(Enum):
    """What a database is to us."""

    EMPTY = auto()
    OURS = auto()


class Damaged(Exception):
    """The content of a file cannot be what coil wrote."""

    def __init__(self, reason: str, *, ours: bool) -> None:
        super().__init__(reason)
        self.ours = ours
        """Whether the file says that coil made it."""


def recognise(connection: sqlite3.Connection, path: Path) -> Kind:
    """Tell whose database this is, without changing it.

    Raises StoreCorrupt when it is another program's or a newer coil's: such a file is left alone.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version > FORMAT:
            raise StoreCorrupt(
                f"store {path} has format {version} and this coil knows {FORMAT}: a newer coil "
                "wrote it; use that one, or name another file",
                path=str(path),
            )
        return Kind.OURS
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application or version or tables:
        raise StoreCorrupt(
            f"{path} is a database of another program; name another file", path=str(path)
        )
    return Kind.EMPTY


def make(connection: sqlite3.Connection) -> None:
    """Make the tables and a new identity; the caller's transaction makes it one step."""
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES (?, 0)", (str(uuid.uuid4()),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def verify(connection: sqlite3.Connection) -> None:
    """Raise Damaged or sqlite3.DatabaseError unless a database of ours can be read as a whole.

    Reads every page: a machine has a few thousand blocks at most (10,000 take 5 ms), and a page
    that fails later, in the middle of a claim, would be worse.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise Damaged(f"format {version} never was", ours=True)
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise Damaged(str(found), ours=True)
    for statement in _COLUMNS:
        connection.execute(statement)
    if connection.execute("SELECT count(*) FROM meta").fetchone()[0] != 1:
        raise Damaged("its identity is missing", ours=True)
