"""What the journal can fail with."""

from __future__ import annotations

import sqlite3

from coil.domain.errors import CoilError, ConfigError

_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # a table or a column is missing
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_NOTADB,
    }
)
"""Result codes (https://www.sqlite.org/rescode.html) that speak of what is in the file. All others
speak of the moment: no space, no permission, no memory, somebody else's lock."""


class JournalError(CoilError):
    """The journal could not be opened or written: nothing may be given out."""


class JournalLocked(ConfigError):
    """Another coild uses this state directory."""


class JournalDamaged(JournalError):
    """The file holds what coil did not write, or not all of it."""


def is_damage(exc: sqlite3.Error) -> bool:
    """Whether the file's content is at fault; text that is no UTF-8 comes without a code."""
    code = int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF
    return code == 0 or code in _DAMAGE
