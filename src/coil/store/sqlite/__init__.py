"""The embedded store: one SQLite file, shared by the processes of one machine."""

from coil.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
