"""The journal of one node: a SQLite file in the state directory.

Written before the kernel is touched and cleared after, so that whoever starts next knows what may
be there. Transactions survive a kill of the process, not a power loss (no fsync): after that no
pod lives either, and the boot id tells. Methods are synchronous (tens of microseconds), safe to
call from any thread, and raise JournalError.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from coil.domain.attachment import Attachment, AttachmentKey
from coil.domain.block import BlockClaim, BlockId
from coil.domain.codec import pool_to_json
from coil.domain.errors import CoilError, ConfigError
from coil.domain.pool import Pool
from coil.journal import schema
from coil.journal.errors import JournalDamaged, JournalError, JournalLocked, is_damage
from coil.journal.state import JournalState, read_state
from coil.process.clock import utc_stamp

FILE_NAME = "journal.db"
_FILES = ("", "-wal", "-shm")


class Moment(Enum):
    """What a later coild must know the time of."""

    ALIVE = "alive"
    """The last sign of a coild of this node."""
    CUT_OFF = "cut off"
    """The last time this node was in touch, while it is cut off from all others."""
    HAD_WAY = "had way"
    """When a way to others was first seen: without it none can be missed."""


class Journal:
    """Open with ``Journal.open``; one process at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.path = path
        self.kept_aside: Path | None = None
        """Where a journal that could not be read was moved, if that happened at open."""
        self.rebooted = False
        """Whether it was written in an earlier boot: its attachments have ended with that."""

    @classmethod
    def open(cls, state_dir: Path, *, boot_id: str) -> Journal:
        """Open or make the journal of ``state_dir``; one that cannot be read is kept aside.

        Raises JournalLocked when another process has it, ConfigError when the directory cannot be
        used or a newer coil wrote the file, JournalError when it cannot be used now: a full disk,
        say, is no reason to give a good journal up.
        """
        path = state_dir / FILE_NAME
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"cannot make state directory {state_dir}: {exc.strerror}") from exc
        try:
            return cls._open_file(path, boot_id)
        except JournalDamaged:
            kept_aside = _keep_aside(path)
        journal = cls._open_file(path, boot_id)
        journal.kept_aside = kept_aside
        return journal

    @classmethod
    def _open_file(cls, path: Path, boot_id: str) -> Journal:
        with _told_apart(path):
            journal = cls(_connect(path), path)
            try:
                journal._begin(boot_id)
                read_state(journal._connection)
                journal.find_moment(Moment.ALIVE)
            except BaseException:
                journal.close()
                raise
        return journal

    def _begin(self, boot_id: str) -> None:
        """Make or check the tables; recognise a reboot."""
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            maker = connection.execute("PRAGMA application_id").fetchone()[0]
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._make_tables()
            elif maker != schema.APPLICATION_ID:
                raise ValueError("another program's database")
            elif version != schema.FORMAT:
                raise ConfigError(
                    f"journal {self.path} has format {version}, this coild knows "
                    f"{schema.FORMAT}: it was written by a newer coild; use that one"
                )
            row = connection.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
            self.rebooted = row is not None and row[0] != boot_id
            if self.rebooted:
                # Times of another boot mean nothing now: all had ended when this boot began.
                connection.execute("UPDATE freed SET freed_at = 0")
                moments = [(moment.value,) for moment in Moment]
                connection.executemany("DELETE FROM meta WHERE key = ?", moments)
            if row is None or self.rebooted:  # nothing is written in vain: the disk may be full
                connection.execute("REPLACE INTO meta VALUES ('boot_id', ?)", (boot_id,))

    def _make_tables(self) -> None:
        for statement in schema.TABLES.split(";"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {schema.FORMAT}")

    def close(self) -> None:
        """Close the file and give up the lock; idempotent."""
        self._connection.close()

    def load(self) -> JournalState:
        """Read everything."""
        with self._transaction() as connection:
            return read_state(connection)

    def store_identity(self) -> str:
        """Identity of the store this journal was last equal to.

        Empty: none yet. Then nothing is known of the past, whatever the store says is ours.
        """
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'store'").fetchone()
        return str(row[0]) if row else ""

    def set_store_identity(self, identity: str) -> None:
        """Remember the store, after the first sync with it."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO meta VALUES ('store', ?)", (identity,))

    def find_moment(self, moment: Moment) -> float | None:
        """When it was (CLOCK_BOOTTIME of this boot), None if never or forgotten."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT value FROM meta WHERE key = ?", (moment.value,)
            ).fetchone()
        return float(row[0]) if row else None

    def put_moment(self, moment: Moment, at: float) -> None:
        """Remember when it was."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO meta VALUES (?, ?)", (moment.value, str(at)))

    def remove_moment(self, moment: Moment) -> None:
        """Forget it; idempotent."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM meta WHERE key = ?", (moment.value,))

    def put_pools(self, pools: Iterable[Pool]) -> None:
        """Remember these pools and no others."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM pools")
            rows = [(pool.name, pool_to_json(pool)) for pool in pools]
            connection.executemany("INSERT INTO pools VALUES (?, ?)", rows)

    def put_block(self, claim: BlockClaim, freed: dict[int, float] | None = None) -> None:
        """Remember a confirmed claim, with offsets that are to cool from the given times."""
        block = claim.id
        with self._transaction() as connection:
            connection.execute(
                "REPLACE INTO blocks VALUES (?, ?, ?, ?, 0)",
                (block.pool, block.index, claim.node, claim.revision),
            )
            rows = [(block.pool, block.index, offset, at) for offset, at in (freed or {}).items()]
            connection.executemany("REPLACE INTO freed VALUES (?, ?, ?, ?)", rows)

    def mark_releasing(self, blocks: Iterable[BlockId]) -> None:
        """Remember that these blocks are being given back."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE blocks SET releasing = 1 WHERE pool = ? AND idx = ?",
                [(block.pool, block.index) for block in blocks],
            )

    def remove_block(self, block: BlockId) -> None:
        """Forget a block and when its addresses were freed. Attachments in it stay."""
        where = (block.pool, block.index)
        with self._transaction() as connection:
            connection.execute("DELETE FROM blocks WHERE pool = ? AND idx = ?", where)
            connection.execute("DELETE FROM freed WHERE pool = ? AND idx = ?", where)

    def put_attachment(self, attachment: Attachment) -> None:
        """Write an attachment; its address is no longer a freed one. Replaces its older self."""
        place = (attachment.block.pool, attachment.block.index, attachment.offset)
        with self._transaction() as connection:
            # Not REPLACE: that would silently drop another holder of the same address.
            self._remove_attachment(connection, attachment.key)
            connection.execute(
                "INSERT INTO attachments VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                schema.attachment_to_row(attachment),
            )
            connection.execute("DELETE FROM freed WHERE pool = ? AND idx = ? AND offset = ?", place)

    def remove_attachments(self, attachments: Sequence[Attachment], freed_at: float | None) -> None:
        """Take attachments out, in one transaction; their addresses were freed at ``freed_at``.

        None: no pod ever had them. Unknown ones are passed over.
        """
        with self._transaction() as connection:
            for attachment in attachments:
                self._remove_attachment(connection, attachment.key)
                if freed_at is not None:
                    block = attachment.block
                    connection.execute(
                        "REPLACE INTO freed VALUES (?, ?, ?, ?)",
                        (block.pool, block.index, attachment.offset, freed_at),
                    )

    def forget_attachment(self, key: AttachmentKey) -> None:
        """Take out what there may be of an attachment that no pod ever had. Idempotent."""
        with self._transaction() as connection:
            self._remove_attachment(connection, key)

    @staticmethod
    def _remove_attachment(connection: sqlite3.Connection, key: AttachmentKey) -> None:
        connection.execute(
            "DELETE FROM attachments WHERE container_id = ? AND ifname = ?",
            (key.container_id, key.ifname),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
        except sqlite3.Error as exc:
            raise JournalError(
                f"cannot use journal {self.path}: {exc}; check space and permissions of "
                f"{self.path.parent}"
            ) from exc


def _make_private(path: Path) -> None:
    """Nobody else may read who has which address: of the file, and of what belongs to it.

    Before SQLite opens it, which gives a log that it makes the mode the file has then. Not opened
    here where it exists: to close it would take this process's locks away (fcntl(2)).
    """
    path.touch(mode=0o600)
    for suffix in _FILES:  # also what an older coild has left
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).chmod(0o600)


def _connect(path: Path) -> sqlite3.Connection:
    _make_private(path)
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _told_apart(path: Path) -> Iterator[None]:
    """Raise JournalDamaged for what cannot be read ever again, JournalError for what may pass."""
    try:
        yield
    except ConfigError:
        raise
    except (sqlite3.Error, OSError) as exc:
        if isinstance(exc, sqlite3.Error) and is_damage(exc):
            raise JournalDamaged(f"journal {path} is damaged: {exc}") from exc
        if "locked" in str(exc):
            raise JournalLocked(
                f"another coild uses {path}; give each coild its own --state-dir"
            ) from exc
        raise JournalError(
            f"cannot open journal {path}: {exc}; check space and permissions of {path.parent}"
        ) from exc
    except (CoilError, ValueError, TypeError, KeyError) as exc:
        raise JournalDamaged(f"journal {path} is damaged: {exc}") from exc


def _keep_aside(path: Path) -> Path:
    """Move a file that cannot be read out of the way, under a name that tells when."""
    aside = path.with_name(f"{path.name}.corrupt-{utc_stamp()}")
    for suffix in _FILES:
        try:
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise ConfigError(f"cannot move {path} aside: {exc.strerror}") from exc
    return aside
