"""The stores that are put to the contract. A further store is one more entry in RIGS."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.request import urlopen

import pytest

import coil.store
from coil.domain.errors import PoolExists
from coil.domain.pool import Pool
from coil.lab.etcd import EtcdMember
from coil.store.contract import Store
from coil.store.errors import StoreUnavailable
from coil.store.etcd import EtcdStore
from coil.store.etcd.client import EtcdClient
from coil.store.etcd.memory import MemoryClient, MemoryEtcd
from coil.store.open import open_store

SOURCE = Path(coil.store.__file__).parents[2]
SCRIPT = Path(__file__).with_name("client.py")


_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)


class Rig(Protocol):
    """An empty store of its own for one test."""

    async def open(self) -> Store:
        """A client with nothing in common with others, as if of another process."""

    def suspend(self) -> None:
        """From now on nobody can reach the store; what it holds stays."""

    def resume(self) -> None:
        """It can be reached again. Idempotent."""


class SharedRig(Rig, Protocol):
    """One that other processes can open."""

    @property
    def url(self) -> str:
        """The store's."""


class SqliteRig:
    """A file in a directory; an outage takes the directory away and puts a file in its place."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "db"
        self.away = folder / "db.away"
        self.path = self.directory / "store.db"

    @property
    def url(self) -> str:
        return f"sqlite://{self.path}"

    async def open(self) -> Store:
        return await open_store(self.url)

    def suspend(self) -> None:
        self.away.touch()
        _exchange(self.directory, self.away)

    def resume(self) -> None:
        if self.away.exists():
            _exchange(self.directory, self.away)
            self.away.unlink()


def _exchange(one: Path, other: Path) -> None:
    """Swap two names in one step: a client that tries again would make what it does not find."""
    if _LIBC.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), f"cannot exchange {one} and {other}")


@contextmanager
def sqlite_rig(request: pytest.FixtureRequest) -> Iterator[SharedRig]:
    folder = request.getfixturevalue("tmp_path")
    rig = SqliteRig(folder)
    try:
        yield rig
    finally:
        rig.resume()


class EtcdRig:
    """A prefix in a real etcd; an outage suspends its process.

    Calls that begin in the outage take silence for one after a second.
    """

    PATIENCE, IMPATIENCE = 30, 1
    """Seconds of a call: enough for any machine, where no outage is to be noticed."""

    def __init__(self, member: EtcdMember) -> None:
        self.member = member
        self.prefix = f"/test-{secrets.token_hex(6)}/"
        self._clients: list[EtcdClient] = []

    @property
    def url(self) -> str:
        return f"etcd://{self.member.endpoint}{self.prefix}?timeout={self.PATIENCE}"

    async def open(self) -> Store:
        store = await open_store(self.url)
        self._clients.append(store._client)
        return store

    def suspend(self) -> None:
        self.member.suspend()
        self._take(self.IMPATIENCE)

    def resume(self) -> None:
        self.member.resume()
        self._take(self.PATIENCE)

    def _take(self, seconds: float) -> None:
        for each in self._clients:
            each.address = replace(each.address, timeout=seconds)


def url_of(members: list[EtcdMember]) -> str:
    """A store of its own in a cluster of several members."""
    hosts = ",".join(member.endpoint for member in members)
    return f"etcd://{hosts}/test-{secrets.token_hex(4)}?timeout=15"


async def make_pool(store: Store, made: Pool) -> None:
    """As often as it takes: of a write in an election the outcome is unknown."""
    while made not in await store.list_pools():
        with contextlib.suppress(StoreUnavailable, PoolExists):
            await store.create_pool(made)


def metric(member: EtcdMember, name: str) -> int:
    """What a member says of itself."""
    text = urlopen(f"{member.client_url}/metrics", timeout=5).read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found
    return int(float(found.group(1)))


@contextmanager
def etcd_rig(request: pytest.FixtureRequest) -> Iterator[SharedRig]:
    rig = EtcdRig(request.getfixturevalue("etcd"))
    try:
        yield rig
    finally:
        rig.resume()


class MemoryRig:
    """The requests of the etcd store, executed here."""

    def __init__(self) -> None:
        self.etcd = MemoryEtcd()

    async def open(self) -> Store:
        return EtcdStore(MemoryClient(self.etcd))

    def suspend(self) -> None:
        self.etcd.away = True

    def resume(self) -> None:
        self.etcd.away = False


@contextmanager
def memory_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    yield MemoryRig()


SHARED_RIGS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[SharedRig]]] = {
    "sqlite": sqlite_rig,
    "etcd": etcd_rig,
}
RIGS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[Rig]]] = {
    **SHARED_RIGS,
    "memory": memory_rig,
}


@asynccontextmanager
async def client(rig: Rig) -> AsyncIterator[Store]:
    """A client with nothing in common with others, as if of another process."""
    store = await rig.open()
    try:
        yield store
    finally:
        await store.close()


class Process:
    """A real process that runs a command of client.py, waiting for the word to begin."""

    def __init__(self, *words: str, within: Sequence[str] = ()) -> None:
        """``within``: a program that starts the one after it, and its arguments."""
        self._process = subprocess.Popen(
            [*within, sys.executable, SCRIPT, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def wait_ready(self) -> None:
        """Until it has imported everything and opened the store."""
        assert self.read_line() == "ready"

    def begin(self) -> None:
        self._stdin.write("go\n")
        self._stdin.flush()

    def read_line(self) -> str:
        """The next whole line, without its end; empty when the process has ended."""
        line = self._stdout.readline()
        return line.removesuffix("\n") if line.endswith("\n") else ""

    def lines(self) -> list[str]:
        """All lines until its end, which must be a good one."""
        found = [line.removesuffix("\n") for line in self._stdout]
        assert self._process.wait(30) == 0
        return found

    def kill(self) -> list[str]:
        """kill -9; returns the whole lines it had still written."""
        self._process.kill()
        rest = self._stdout.read()
        self._process.wait(30)
        return rest.split("\n")[:-1]

    def end(self) -> None:
        """Whatever state it is in, it and its pipes are gone afterwards."""
        self._process.kill()
        self._process.wait(30)
        self._stdin.close()
        self._stdout.close()


@contextmanager
def processes(*commands: list[str]) -> Iterator[list[Process]]:
    """Processes that have all begun at the same time."""
    started: list[Process] = []
    try:
        for command in commands:
            started.append(Process(*command))
        for process in started:
            process.wait_ready()
        for process in started:
            process.begin()
        yield started
    finally:
        for process in started:
            process.end()
