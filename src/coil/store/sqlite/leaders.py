"""Who leads, in the embedded store: a row that counts for a while of this boot of the machine."""

from __future__ import annotations

import sqlite3

from coil.process import clock
from coil.store.sqlite.schema import LEADERS


def lead(connection: sqlite3.Connection, role: str, holder: str, seconds: float) -> bool:
    """See ``coil.store.contract.LeaderStore``."""
    if find_leader(connection, role) not in {None, holder}:
        return False
    row = (role, holder, clock.boot_id(), clock.boottime() + seconds)
    connection.execute("INSERT OR REPLACE INTO leaders VALUES (?, ?, ?, ?)", row)
    return True


def resign(connection: sqlite3.Connection, role: str, holder: str) -> None:
    """See ``coil.store.contract.LeaderStore``."""
    connection.execute(LEADERS)
    connection.execute("DELETE FROM leaders WHERE role = ? AND holder = ?", (role, holder))


def find_leader(connection: sqlite3.Connection, role: str) -> str | None:
    """See ``coil.store.contract.LeaderStore``. A row of an earlier boot counts for nothing."""
    connection.execute(LEADERS)
    query = "SELECT holder FROM leaders WHERE role = ? AND boot = ? AND until > ?"
    found = connection.execute(query, (role, clock.boot_id(), clock.boottime())).fetchone()
    return str(found[0]) if found else None
