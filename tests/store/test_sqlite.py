"""The embedded store: its file, and everything that can happen to a file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coil.domain.block import BlockId
from coil.domain.errors import ConfigError, OutOfBlocks, PoolNotFound
from coil.domain.names import NodeName, PoolName
from coil.domain.pool import Pool, parse_subnet
from coil.store.errors import StoreCorrupt, StoreUnavailable
from coil.store.sqlite import SqliteStore
from coil.store.sqlite.file import lock_path
from store.rigs import SOURCE, Process, SqliteRig, processes

A, B = NodeName("node-a"), NodeName("node-b")
NAME = PoolName("default")
POOL = Pool(NAME, (parse_subnet("10.0.0.0/24"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db" / "store.db"


@contextlib.asynccontextmanager
async def opened(path: Path, **options: float) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, **options)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def other_hands(path: Path) -> Iterator[sqlite3.Connection]:
    """The database as somebody with the sqlite3 program would change it."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


async def made(path: Path, *, claims: int = 3) -> str:
    """A store with a pool and claims; returns its identity."""
    async with opened(path) as store:
        await store.create_pool(POOL)
        await store.claim_blocks(A, NAME, claims)
        return await store.identity()


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


# The file


async def test_directory_and_file_are_made_for_their_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(path) as store:
            await store.create_pool(POOL)
            modes = {
                entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()
            }
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(modes) == {"store.db", "store.db-wal", "store.db-shm", lock_path(path).name}
    assert set(modes.values()) == {0o600}


async def test_two_files_are_two_stores(tmp_path: Path) -> None:
    assert await made(tmp_path / "a") != await made(tmp_path / "b")


async def test_a_name_with_odd_characters_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c %41.db"
    await made(path)
    assert path.is_file()


async def test_a_symbolic_link_leads_to_the_file(tmp_path: Path, path: Path) -> None:
    identity = await made(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with opened(link) as store:
        assert await store.identity() == identity
    assert names(tmp_path) == {"db", "link.db"}


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    await made(path)
    async with opened(path) as store:
        assert store.recovered_from is None
        assert await store.list_pools() == [POOL]


async def test_what_a_call_returned_is_synced_to_the_disk(path: Path) -> None:
    async with opened(path) as store:
        levels = await store._read(
            lambda records: [
                records.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            ]
        )
    assert levels == ["wal", 2]


# Places that cannot hold a store


@pytest.mark.parametrize("kind", ["directory", "parent is a file", "too long", "fifo", "loop"])
async def test_a_place_that_cannot_hold_a_store_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "store.db"
    if kind == "directory":
        path.mkdir()
    elif kind == "parent is a file":
        path.touch()
        path /= "store.db"
    elif kind == "too long":
        path = tmp_path / ("x" * 300)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    before = names(tmp_path)
    with pytest.raises(ConfigError) as caught:
        async with opened(path):
            pass
    assert str(path)[:200] in caught.value.message
    assert names(tmp_path) == before


def in_child(script: str, *prepare: str, user: int | None = None) -> list[str]:
    """Run a coroutine body in a process of its own, after shell commands in its own mounts."""
    program = (
        "import asyncio, sys, os, resource\nfrom pathlib import Path\n"
        "from coil.store.sqlite import SqliteStore\nfrom coil.domain.errors import CoilError\n"
        "from coil.domain.pool import Pool, parse_subnet\n"
        "async def main(path):\n" + "\n".join(f"    {line}" for line in script.splitlines()) + "\n"
        "asyncio.run(main(Path(sys.argv[1])))\n"
    )
    command = ["unshare", "--mount", "sh", "-euc", "; ".join([*prepare, 'exec "$@"']), "sh"]
    command += [sys.executable, "-c", program, os.environ["STORE_PATH"]]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=user,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


SAY_WHY_NOT_OPENED = """
store = SqliteStore(path)
try:
    await store.open()
except CoilError as exc:
    print(type(exc).__name__, exc.message)
await store.close()
"""


SAY_WHY_NOT_READ = """
store = SqliteStore(path)
await store.open()
try:
    await store.list_pools()
except CoilError as exc:
    print(type(exc).__name__, exc.message)
await store.close()
"""


async def test_a_read_only_file_system_without_a_store_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.setenv("STORE_PATH", str(path))
    said = in_child(SAY_WHY_NOT_OPENED, f"mount --bind -r {path.parent} {path.parent}")
    assert len(said) == 1
    assert said[0].startswith("ConfigError")
    assert str(path) in said[0]


@pytest.mark.parametrize("what", ["directory", "file"])
async def test_a_store_that_cannot_be_written_for_now_is_one_that_is_away(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await made(path)
    place = path if what == "file" else path.parent
    monkeypatch.setenv("STORE_PATH", str(path))
    said = in_child(SAY_WHY_NOT_READ, f"mount --bind -r {place} {place}")
    assert len(said) == 1
    assert said[0].startswith("StoreUnavailable")
    assert str(path) in said[0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("what", ["directory", "file"])
async def test_a_place_without_permission_is_refused(what: str) -> None:
    # Not in tmp_path, which nobody else may enter.
    with subprocess.Popen(["mktemp", "-d"], stdout=subprocess.PIPE, text=True) as mktemp:
        assert mktemp.stdout
        folder = Path(mktemp.stdout.read().strip())
    try:
        path = folder / "store.db"
        await made(path)
        folder.chmod(0o755 if what == "directory" else 0o777)
        if what == "directory":
            path.chmod(0o666)
            lock_path(path).unlink()
        script = f"""
import asyncio, os
from pathlib import Path
from coil.store.sqlite import SqliteStore
from coil.domain.errors import CoilError
async def main():
    os.setuid(65534)
    store = SqliteStore(Path({str(path)!r}))
    try:
        await store.open()
    except CoilError as exc:
        print(type(exc).__name__, exc.message)
    await store.close()
asyncio.run(main())
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.startswith("ConfigError")
        assert str(folder) in done.stdout
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


# Files of others: never touched


def make_foreign(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("root:x:0:0:root:/root:/bin/bash\n" * 100)
        return
    with other_hands(path) as connection:
        if kind == "newer coil":
            connection.execute("PRAGMA application_id = 0x636F6973")
            connection.execute("PRAGMA user_version = 99")
            connection.execute("CREATE TABLE meta (identity TEXT)")
        elif kind == "tables of another program":
            connection.execute("CREATE TABLE pools (name TEXT)")
        elif kind == "named by another program":
            connection.execute("PRAGMA application_id = 0x12345678")
        else:
            connection.execute("PRAGMA user_version = 7")


FOREIGN = [
    "text",
    "newer coil",
    "tables of another program",
    "named by another program",
    "numbered by another program",
]


@pytest.mark.parametrize("kind", FOREIGN)
async def test_a_file_of_another_program_is_refused_and_left_as_it_is(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "theirs"
    make_foreign(path, kind)
    content, mode = path.read_bytes(), path.stat().st_mode
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="another file") as caught:
            async with opened(path):
                pass
        assert str(path) in caught.value.message
    assert path.read_bytes() == content
    assert path.stat().st_mode == mode
    assert names(tmp_path) == {"theirs"}


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if kind != "text"])
async def test_a_database_of_another_program_in_our_place_is_left_as_it_is(
    path: Path, kind: str
) -> None:
    async with opened(path) as store:
        await store.create_pool(POOL)
        path.rename(path.with_name("ours"))
        make_foreign(path, kind)
        content = path.read_bytes()
        with pytest.raises(StoreCorrupt, match="another file"):
            await store.list_pools()
        assert path.read_bytes() == content
        path.unlink()
        for suffix in ("-wal", "-shm"):
            path.with_name(f"store.db{suffix}").unlink(missing_ok=True)
        path.with_name("ours").rename(path)
        assert isinstance(await store.identity(), str)


# Damage


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def drop(path: Path, statement: str) -> None:
    with other_hands(path) as connection:
        connection.execute(statement)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"garbage" * 1000),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "only a header": lambda path: os.truncate(path, 100),
    "a page of zeros": lambda path: overwrite(path, 4096, bytes(4096)),
    "every page but the first": lambda path: overwrite(
        path, 4096, b"\x5a" * (path.stat().st_size - 4096)
    ),
    "no format": lambda path: drop(path, "PRAGMA user_version = 0"),
    "a table is missing": lambda path: drop(path, "DROP TABLE blocks"),
    "a column is missing": lambda path: drop(path, "ALTER TABLE pools DROP COLUMN free_from"),
    "no identity": lambda path: drop(path, "DELETE FROM meta"),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_store_is_kept_aside_and_a_new_one_made_loudly(
    path: Path, kind: str
) -> None:
    identity = await made(path)
    DAMAGE[kind](path)
    content = path.read_bytes()
    with capture_logs() as logs:
        async with opened(path) as store:
            aside = store.recovered_from
            assert aside is not None
            assert aside.parent == path.parent
            assert aside.name.startswith("store.db.corrupt-20")
            assert aside.read_bytes() == content
            assert await store.identity() != identity
            assert await store.list_pools() == []
            await store.create_pool(POOL)
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert (entry["path"], entry["kept_aside"]) == (str(path), str(aside))
    async with opened(path) as store:
        assert store.recovered_from is None
        assert await store.list_pools() == [POOL]


async def test_the_log_of_a_damaged_store_goes_with_it(path: Path) -> None:
    await made(path)
    async with opened(path) as store:
        await store.set_cordoned(NAME, cordoned=True)
        copy = {
            suffix: path.with_name(f"store.db{suffix}").read_bytes() for suffix in ("-wal", "-shm")
        }
    path.write_bytes(b"garbage" * 1000)
    for suffix, content in copy.items():
        path.with_name(f"store.db{suffix}").write_bytes(content)
    async with opened(path) as store:
        aside = store.recovered_from
        assert aside is not None
        assert await store.list_pools() == []
        assert aside.with_name(f"{aside.name}-wal").read_bytes() == copy["-wal"]


async def test_damage_upon_damage_is_kept_under_names_of_its_own(path: Path) -> None:
    await made(path)
    kept: set[Path] = set()
    for number in range(3):
        path.write_bytes(b"garbage %d" % number * 100)
        async with opened(path) as store:
            assert store.recovered_from is not None
            kept.add(store.recovered_from)
    assert len(kept) == 3
    assert sorted(aside.read_bytes()[:9] for aside in kept) == [b"garbage %d" % n for n in range(3)]


async def test_of_many_processes_one_keeps_the_damaged_file_aside(path: Path) -> None:
    await made(path)
    path.write_bytes(b"garbage" * 1000)
    with processes(*[[f"sqlite://{path}", "identity"] for _ in range(4)]) as started:
        said = [json.loads(process.lines()[-1]) for process in started]
    assert len({each["identity"] for each in said}) == 1
    assert len([each for each in said if each["kept_aside"] != "None"]) == 1
    assert len([name for name in names(path.parent) if "corrupt" in name]) == 1


async def test_damage_that_shows_while_the_store_is_open_is_told_and_then_mended(
    path: Path,
) -> None:
    async with opened(path) as store, opened(path) as other:
        await store.create_pool(POOL)
        identity = await store.identity()
        drop(path, "DROP TABLE blocks")
        with pytest.raises(StoreCorrupt, match="damaged"):
            await store.list_node_blocks(A)
        assert await store.list_node_blocks(A) == []
        assert store.recovered_from is not None
        # The other client comes to the new store by itself.
        assert await other.identity() == await store.identity() != identity
        assert other.recovered_from is None


async def test_a_watch_goes_on_in_the_store_that_replaces_a_damaged_one(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(POOL)
        watch = store.watch_pools()
        assert await anext(watch) == [POOL]
        waiting = asyncio.ensure_future(anext(watch))
        drop(path, "DROP TABLE pools")
        assert await waiting == []
        await store.create_pool(POOL)
        assert await anext(watch) == [POOL]


async def test_each_single_change_of_another_is_told(path: Path) -> None:
    """A missed one would be found, but not before minutes have gone."""
    async with opened(path) as store, opened(path) as other:
        await other.create_pool(POOL)
        watch = store.watch_pools()
        assert await anext(watch) == [POOL]
        for turn in range(100):
            waiting = asyncio.ensure_future(anext(watch))
            changed = await other.set_cordoned(POOL.name, cordoned=turn % 2 == 0)
            async with asyncio.timeout(20):
                assert await waiting == [changed]


async def test_a_watch_goes_on_in_a_directory_that_replaces_a_removed_one(tmp_path: Path) -> None:
    path = tmp_path / "dir" / "store.db"
    async with opened(path) as store:
        await store.create_pool(POOL)
        watch = store.watch_pools()
        assert await anext(watch) == [POOL]
        path.parent.rename(tmp_path / "aside")
        assert await anext(watch) == []
        async with opened(path) as other:
            await other.create_pool(POOL)
        assert await anext(watch) == [POOL]


NO_INOTIFY = ("unshare", "-Ur", "sh", "-ec", """
    echo 0 > /proc/sys/user/max_inotify_instances
    exec "$@"
""", "sh")  # fmt: skip


async def test_changes_are_watched_where_the_kernel_has_no_inotify_left(path: Path) -> None:
    async with opened(path) as store:
        watcher = Process(f"sqlite://{path}", "watch-pools", POOL.name, within=NO_INOTIFY)
        try:
            watcher.wait_ready()
            watcher.begin()
            assert "no inotify" in watcher.read_line()
            assert json.loads(watcher.read_line()) == {"pools": []}
            await store.create_pool(POOL)
            assert json.loads(watcher.read_line()) == {"pools": [POOL.name]}
        finally:
            watcher.end()


# Records that cannot be read


BAD_SPECS = ["", "{", "null", "[]", '{"subnets": ["10.0.0.0/24"]}', "[" * 100_000]


@pytest.mark.parametrize("spec", BAD_SPECS, ids=range(len(BAD_SPECS)))
async def test_a_pool_that_cannot_be_read_is_named_and_can_be_deleted(
    path: Path, spec: str
) -> None:
    await made(path)
    with other_hands(path) as connection:
        connection.execute("INSERT INTO pools (name, spec) VALUES ('odd', ?)", (spec,))
    odd = PoolName("odd")
    async with opened(path) as store:
        assert store.recovered_from is None
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.get_pool(odd),
            lambda: store.claim_blocks(A, odd, 1),
            lambda: store.set_cordoned(odd, cordoned=True),
            lambda: store.create_pool(Pool(PoolName("new"), (parse_subnet("10.9.0.0/24"),))),
        ]
        for call in calls:
            with pytest.raises(StoreCorrupt) as caught:
                await call()
            assert "'odd'" in caught.value.message
            assert str(path) in caught.value.message
        # Everything that does not need that pool works.
        assert await store.get_pool(NAME) == POOL
        with capture_logs() as logs:
            assert await store.list_pools() == await store.list_pools() == [POOL]
        assert ["'odd'" in entry["reason"] for entry in logs] == [True]
        assert len(await store.claim_blocks(B, NAME, 1)) == 1
        await store.delete_pool(odd)
        assert await store.list_pools() == [POOL]


async def test_a_pool_with_an_impossible_name_is_told(path: Path) -> None:
    await made(path)
    with other_hands(path) as connection:
        connection.execute("UPDATE pools SET name = CAST(x'FF41' AS TEXT)")
    async with opened(path) as store:
        with capture_logs() as logs:
            assert await store.list_pools() == []
        assert ["pool name" in entry["reason"] for entry in logs] == [True]


@pytest.mark.parametrize("name", ["'../x'", "CAST(x'FF' AS TEXT)", "''"])
@pytest.mark.parametrize("column", ["pool", "node"])
async def test_a_claim_with_an_impossible_name_is_told(path: Path, column: str, name: str) -> None:
    await made(path)
    with other_hands(path) as connection:
        connection.execute(f"UPDATE blocks SET {column} = {name} WHERE idx = 1")
    async with opened(path) as store:
        # A bad pool name is met by who lists the node: what it owns is in doubt. A bad node name
        # is met by who lists the pool.
        if column == "pool":
            with pytest.raises(StoreCorrupt, match="pool name") as caught:
                await store.list_node_blocks(A)
            assert str(path) in caught.value.message
        else:
            with capture_logs() as logs:
                assert [c.id.index for c in await store.list_pool_blocks(NAME)] == [0, 2]
            assert ["node name" in entry["reason"] for entry in logs] == [True]


async def test_other_types_cannot_get_into_the_tables(path: Path) -> None:
    await made(path)
    for statement in (
        "UPDATE blocks SET revision = 'x'",
        "UPDATE blocks SET idx = -1",
        "UPDATE blocks SET node = NULL",
        "UPDATE pools SET spec = x'00'",
    ):
        with other_hands(path) as connection, pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)


async def test_a_watch_goes_on_beside_a_record_that_cannot_be_read(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(POOL)
        watch = store.watch_pools()
        await anext(watch)
        with other_hands(path) as connection:
            connection.execute("INSERT INTO pools (name, spec) VALUES ('odd', '?')")
        changed = await store.set_cordoned(NAME, cordoned=True)
        assert await anext(watch) == [changed]


# Deleted, replaced, moved


async def test_a_deleted_file_is_made_anew_with_another_identity_loudly(path: Path) -> None:
    async with opened(path) as store, opened(path) as other:
        await store.create_pool(POOL)
        identity = await store.identity()
        with capture_logs() as logs:
            path.unlink()
            assert await store.list_pools() == []
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert await store.identity() == await other.identity() != identity
        await other.create_pool(POOL)
        assert await store.list_pools() == [POOL]


async def test_a_deleted_directory_is_made_anew(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(POOL)
        subprocess.run(["rm", "-r", path.parent], check=True)
        assert await store.list_pools() == []
        await store.create_pool(POOL)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_replaced_file_is_noticed_by_calls_and_watches(tmp_path: Path, path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    other_identity = await made(elsewhere)
    async with opened(path) as store:
        blocks = store.watch_node_blocks(A)
        pools = store.watch_pools()
        assert await anext(blocks) == []
        assert await anext(pools) == []
        waiting = [asyncio.ensure_future(anext(blocks)), asyncio.ensure_future(anext(pools))]
        for suffix in ("-wal", "-shm"):
            path.with_name(f"store.db{suffix}").unlink()
        elsewhere.rename(path)
        assert len(await waiting[0]) == 3
        assert await waiting[1] == [POOL]
        assert await store.identity() == other_identity


async def test_watches_tell_of_a_new_store_even_when_it_holds_the_same(path: Path) -> None:
    async with opened(path) as store:
        watch = store.watch_pools()
        assert await anext(watch) == []
        waiting = asyncio.ensure_future(anext(watch))
        path.unlink()
        assert await waiting == []


async def test_an_old_client_does_not_harm_the_store_that_came_in_its_place(path: Path) -> None:
    async with opened(path) as old:
        await old.create_pool(POOL)
        path.unlink()
        async with opened(path) as new:
            await new.create_pool(replace(POOL, cool_down=7))
            await new.claim_blocks(A, NAME, 5)
            await old.close()
            assert path.with_name("store.db-wal").exists()
        async with opened(path) as again:
            assert len(await again.list_node_blocks(A)) == 5
            assert again.recovered_from is None


# Space and limits


FILL_AND_FREE = """
store = SqliteStore(path)
await store.open()
await store.create_pool(Pool("default", (parse_subnet("10.0.0.0/8"),), 0))
ballast = path.with_name("ballast")
with open(ballast, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError as exc:
        print(exc.strerror)
held = 0
try:
    while True:
        held += len(await store.claim_blocks("node-a", "default", 200))
except CoilError as exc:
    print(type(exc).__name__, exc.transient, exc.message)
print(held == len(await store.list_node_blocks("node-a")))
ballast.unlink()
await store.claim_blocks("node-a", "default", 200)
print(held + 200 == len(await store.list_node_blocks("node-a")), store.recovered_from)
await store.close()
"""


async def test_a_full_disk_refuses_claims_and_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.setenv("STORE_PATH", str(path))
    said = in_child(FILL_AND_FREE, f"mount -t tmpfs -o size=512k none {path.parent}")
    assert said[0] == "No space left on device"
    assert said[1].startswith("StoreUnavailable True")
    assert "no space" in said[1]
    assert said[2:] == ["True", "True None"]


async def test_a_disk_that_is_full_from_the_start_is_told_by_the_first_call(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.setenv("STORE_PATH", str(path))
    script = """
store = SqliteStore(path)
ballast = path.with_name("ballast")
ballast.write_bytes(bytes(os.statvfs(path.parent).f_bavail * 4096))
await store.open()
try:
    await store.list_pools()
except CoilError as exc:
    print(type(exc).__name__, exc.message)
ballast.unlink()
print(await store.list_pools())
await store.close()
"""
    said = in_child(script, f"mount -t tmpfs -o size=512k none {path.parent}")
    assert said[0].startswith("StoreUnavailable")
    assert said[1:] == ["[]"]


async def test_a_limit_on_the_size_of_files_refuses_claims_and_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_PATH", str(path))
    script = """
store = SqliteStore(path)
await store.open()
await store.create_pool(Pool("default", (parse_subnet("10.0.0.0/8"),), 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 200_000))
held = 0
try:
    while True:
        held += len(await store.claim_blocks("node-a", "default", 100))
except CoilError as exc:
    print(type(exc).__name__, exc.transient)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
print(held == len(await store.list_node_blocks("node-a")), held > 0)
await store.claim_blocks("node-a", "default", 1)
await store.close()
"""
    assert in_child(script) == ["StoreUnavailable True", "True True"]


# Other processes that hold it


async def test_a_store_that_is_locked_for_too_long_is_unavailable_and_can_be_read(
    path: Path,
) -> None:
    await made(path)
    async with opened(path, busy_seconds=0.1) as store:
        with other_hands(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="another process"):
                await store.claim_blocks(A, NAME, 1)
            assert len(await store.list_node_blocks(A)) == 3
            connection.rollback()
        assert len(await store.claim_blocks(A, NAME, 1)) == 1


async def test_who_writes_without_a_pause_leaves_others_their_turn(path: Path) -> None:
    await made(path)
    writes, ended = threading.Event(), threading.Event()

    def write_on_and_on() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
            while not ended.wait(0.0003):
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute("BEGIN IMMEDIATE")
                    writes.set()
                    ended.wait(0.03)
                    connection.rollback()

    async with opened(path, busy_seconds=3) as store:
        await store.add_subnet(NAME, parse_subnet("10.1.0.0/24"))
        writing = asyncio.create_task(asyncio.to_thread(write_on_and_on))
        try:
            for _ in range(12):
                writes.clear()
                assert await asyncio.to_thread(writes.wait, 30)
                assert await store.claim_blocks(A, NAME, 1)
        finally:
            ended.set()
            await writing


async def test_an_opening_that_is_held_up_by_another_is_unavailable(path: Path) -> None:
    await made(path)
    with lock_path(path).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with opened(path, busy_seconds=0.1) as store:
            with pytest.raises(StoreUnavailable, match="another process"):
                await store.list_pools()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert await store.list_pools() == [POOL]


async def test_a_file_that_another_moves_under_the_lock_is_not_looked_at_meanwhile(
    path: Path,
) -> None:
    """As a process does that keeps a damaged file aside and makes a new one."""
    identity = await made(path)
    aside = path.with_name("aside")

    def move_again_and_again() -> None:
        for _ in range(500):
            path.rename(aside)
            aside.rename(path)

    with lock_path(path).open("rb") as lock:
        for _ in range(50):
            fcntl.flock(lock, fcntl.LOCK_EX)
            store = SqliteStore(path, busy_seconds=20)
            opening = asyncio.ensure_future(store.open())
            await asyncio.to_thread(move_again_and_again)
            fcntl.flock(lock, fcntl.LOCK_UN)
            await opening
            assert await store.identity() == identity
            await store.close()


async def test_the_event_loop_goes_on_while_the_store_waits(path: Path) -> None:
    await made(path)
    async with opened(path) as store:
        with other_hands(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            claim = asyncio.ensure_future(store.claim_blocks(A, NAME, 1))
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not claim.done()
            connection.rollback()
        assert len(await claim) == 1


async def test_a_call_that_is_cancelled_before_its_turn_never_happens(path: Path) -> None:
    await made(path)
    async with opened(path) as store:
        with other_hands(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            running = asyncio.ensure_future(store.claim_blocks(A, NAME, 1))
            waiting = asyncio.ensure_future(store.claim_blocks(B, NAME, 1))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.wait([waiting])
            connection.rollback()
        await running
        assert await store.list_node_blocks(B) == []


async def test_a_forked_process_is_told_to_open_its_own(path: Path) -> None:
    async with opened(path) as store:
        child = os.fork()
        if child == 0:
            try:
                store.list_pools().send(None)
            except RuntimeError as exc:
                os._exit(0 if "fork" in str(exc) else 1)
            except BaseException:
                os._exit(2)
            os._exit(3)
        assert os.waitpid(child, 0)[1] == 0
        assert await store.list_pools() == []


async def test_a_closed_store_takes_no_calls(path: Path) -> None:
    async with opened(path) as store:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await store.list_pools()


# Which blocks are claimed


async def test_the_lowest_free_indexes_are_claimed(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(POOL)

        async def claim(count: int) -> list[int]:
            return [claim.id.index for claim in await store.claim_blocks(A, NAME, count)]

        assert await claim(3) == [0, 1, 2]
        await store.reclaim_blocks(B, NAME, [4, 6])
        claims = {c.id.index: c for c in await store.list_pool_blocks(NAME)}
        await store.release_blocks([claims[1]])
        assert await claim(3) == [1, 3, 5]
        assert await claim(9) == [7]
        with pytest.raises(OutOfBlocks):
            await claim(1)
        await store.release_blocks([claims[6]])
        await store.release_blocks([claims[0]])
        assert await claim(1) == [0]
        assert await claim(1) == [6]


async def test_rows_deleted_by_hand_are_found_before_a_pool_is_called_full(path: Path) -> None:
    await made(path, claims=8)
    with other_hands(path) as connection:
        connection.execute("DELETE FROM blocks WHERE idx IN (2, 5)")
    async with opened(path) as store:
        again = [claim.id.index for claim in await store.claim_blocks(B, NAME, 3)]
        assert again == [2, 5]


@pytest.mark.parametrize("subnet", ["fd00:1::/64", "fd00:1::/48", "fd00::/9"])
async def test_pools_too_large_to_count_give_blocks(path: Path, subnet: str) -> None:
    huge = Pool(NAME, (parse_subnet(subnet),))
    async with opened(path) as store:
        await store.create_pool(huge)
        assert [c.id.index for c in await store.claim_blocks(A, NAME, 2)] == [0, 1]
        far = [7, 2**40, 2**59 - 1]
        assert [c.id.index for c in await store.reclaim_blocks(B, NAME, far)] == far
        assert [c.id.index for c in await store.claim_blocks(A, NAME, 6)] == [2, 3, 4, 5, 6, 8]


async def test_an_index_beyond_what_a_row_can_hold_is_not_had(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(Pool(NAME, (parse_subnet("fd00::/16"),)))
        had = await store.reclaim_blocks(A, NAME, [2**63 - 1, 2**63, 2**100, 1])
        assert [claim.id.index for claim in had] == [1, 2**63 - 1]
        assert await store.list_node_blocks(A) == had
        assert len(await store.claim_blocks(B, NAME, 3)) == 3


async def test_ten_thousand_claims_are_kept_apart(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(Pool(NAME, (parse_subnet("10.0.0.0/8"),), 0))
        for number in range(100):
            await store.claim_blocks((A, B)[number % 2], NAME, 100)
        await store.claim_blocks(A, NAME, 1)
        mine, theirs = await store.list_node_blocks(A), await store.list_node_blocks(B)
        assert {c.id.index for c in mine} | {c.id.index for c in theirs} == set(range(10_001))
        assert len(mine) + len(theirs) == len({c.revision for c in mine + theirs}) == 10_001
    async with opened(path) as store:
        assert len(await store.list_pool_blocks(NAME)) == 10_001
        assert store.recovered_from is None


async def test_less_than_one_block_cannot_be_asked_for(path: Path) -> None:
    async with opened(path) as store:
        await store.create_pool(POOL)
        with pytest.raises(ValueError, match="at least 1"):
            await store.claim_blocks(A, NAME, 0)


async def test_claims_of_a_pool_that_is_gone_can_be_released(path: Path) -> None:
    await made(path)
    drop(path, "DELETE FROM pools")
    async with opened(path) as store:
        with pytest.raises(PoolNotFound):
            await store.list_pool_blocks(NAME)
        claims = await store.list_node_blocks(A)
        assert [claim.id for claim in claims] == [BlockId(NAME, index) for index in range(3)]
        for claim in claims:
            await store.release_blocks([claim])
        assert await store.list_node_blocks(A) == []


def test_the_rig_of_the_contract_is_of_this_store(tmp_path: Path) -> None:
    assert SqliteRig(tmp_path).url.startswith("sqlite:///")
