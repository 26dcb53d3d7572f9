"""What systemd is told."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager, suppress

import pytest

from coil.process.notify import Notifier
from unit.process.clocked import run


@contextmanager
def manager(name):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(name)
        receiving.settimeout(5)
        yield receiving


def all_of(receiving):
    """What has arrived and was not read."""
    receiving.settimeout(0)
    found = []
    with suppress(BlockingIOError):
        while message := receiving.recv(100):
            found.append(message)
    return found


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_stopping_and_status_are_heard(tmp_path, abstract):
    name = f"coil-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with manager("\0" + name if abstract else name) as heard:
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name if abstract else name})
        notifier.ready()
        assert heard.recv(100) == b"READY=1"
        notifier.status("serving\nREADY=0  12 pods")
        assert heard.recv(100) == b"STATUS=serving READY=0 12 pods"
        notifier.stopping()
        assert heard.recv(100) == b"STOPPING=1"


async def watch(notifier, seconds):
    async with asyncio.timeout(seconds):
        await notifier.watchdog()


@pytest.mark.parametrize("meant_for", [{}, {"WATCHDOG_PID": str(os.getpid())}])
def test_the_watchdog_is_fed_twice_per_period(tmp_path, meant_for):
    name = str(tmp_path / "notify")
    with manager(name) as heard:
        notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000", **meant_for})
        with pytest.raises(TimeoutError):
            run(watch(notifier, 0.28))
        assert all_of(heard) == [b"WATCHDOG=1"] * 6  # at 0, 50, ... 250 ms


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": ""},
    ],
)
def test_a_watchdog_that_nobody_or_another_asked_for_is_not_fed(tmp_path, environment):
    name = str(tmp_path / "notify")
    with manager(name) as heard:
        with pytest.raises(TimeoutError):
            run(watch(Notifier({"NOTIFY_SOCKET": name, **environment}), 60))
        assert all_of(heard) == []


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": "/nowhere/x"}, {"NOTIFY_SOCKET": "/" + 200 * "x"}]
)
def test_without_a_manager_nothing_fails(environment):
    notifier = Notifier(environment)
    notifier.ready()
    notifier.status("alone")
    notifier.stopping()


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path):
    name = str(tmp_path / "notify")
    with manager(name):
        notifier = Notifier({"NOTIFY_SOCKET": name})
        for _ in range(2000):  # more than a queue of datagrams holds
            notifier.ready()
