"""Runs async tests, gives each a store of its own, and finds what a test leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path

import pytest

from store.rigs import RIGS, Rig

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
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Threads and descriptors are as many after a test as before."""
    before = _held()
    yield
    deadline = time.monotonic() + 5
    while (after := _held()) != before and time.monotonic() < deadline:
        gc.collect()
        threading.Event().wait(0.01)
    assert after == before


def _held() -> tuple[list[str], int]:
    threads = sorted(t.name for t in threading.enumerate() if not t.name.startswith("asyncio_"))
    return threads, len(os.listdir("/proc/self/fd"))
