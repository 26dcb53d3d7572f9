"""Runs async tests, gives each a store of its own, and finds what a test leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path

import pytest

from coil.lab.etcd import EtcdMember, local_etcd
from store.rigs import RIGS, SHARED_RIGS, EtcdRig, Rig, SharedRig

_DEADLINE_SECONDS = 60


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function in a loop of its own."""
    if not iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    asyncio.run(asyncio.wait_for(test, _DEADLINE_SECONDS))
    return True


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with RIGS[request.param](request) as made:
        yield made


@pytest.fixture(params=SHARED_RIGS)
def shared_rig(request: pytest.FixtureRequest) -> Iterator[SharedRig]:
    with SHARED_RIGS[request.param](request) as made:
        yield made


@pytest.fixture(scope="session")
def etcd() -> Iterator[EtcdMember]:
    """One etcd for all tests, in memory; each test has a prefix of its own."""
    folder = Path(tempfile.mkdtemp(prefix="coil-etcd-", dir="/dev/shm"))
    with local_etcd(folder) as (member,):
        yield member


@pytest.fixture
def prefixed(etcd: EtcdMember) -> EtcdRig:
    """A prefix of its own in the etcd of all tests."""
    return EtcdRig(etcd)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[list[EtcdMember]]:
    """A cluster of three, for one test."""
    with local_etcd(tmp_path / "trio", 3) as members:
        yield members


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Threads and descriptors are not more after a test than before."""
    before = _held()
    yield
    deadline = time.monotonic() + 5
    while _gained(before) and time.monotonic() < deadline:
        gc.collect()
        threading.Event().wait(0.01)
    assert not _gained(before)


def _gained(before: tuple[Counter[str], int]) -> bool:
    threads, descriptors = _held()
    return bool(threads - before[0]) or descriptors > before[1]


def _held() -> tuple[Counter[str], int]:
    names = (t.name for t in threading.enumerate() if not t.name.startswith("asyncio_"))
    return Counter(names), len(os.listdir("/proc/self/fd"))
