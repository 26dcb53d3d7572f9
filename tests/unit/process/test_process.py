"""Supervision, notification, logs, clock."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket

import pytest
import structlog

from coil.process import clock, logging
from coil.process.notify import Notifier
from coil.process.supervise import TaskEnded, supervise


def test_an_eternal_task_that_returns_ends_the_process():
    async def main(supervisor):
        async def returns():
            return None

        supervisor.spawn("short", returns)
        await supervisor.wait_stopping()

    with pytest.raises(TaskEnded, match="short"):
        asyncio.run(supervise(main))


def test_a_failing_task_ends_the_process_with_its_own_error():
    async def main(supervisor):
        async def fails():
            raise ZeroDivisionError

        supervisor.spawn("broken", fails)
        await supervisor.wait_stopping()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(supervise(main))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_and_cancels_what_was_spawned(number):
    ended = []

    async def main(supervisor):
        async def eternal():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        supervisor.spawn("eternal", eternal)
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
        await supervisor.wait_stopping()

    asyncio.run(supervise(main))
    assert ended == [True]


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_stopping_and_the_watchdog(tmp_path, abstract):
    name = f"coil-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(5)
        notifier = Notifier(
            {"NOTIFY_SOCKET": "@" + name if abstract else name, "WATCHDOG_USEC": "20000"}
        )
        notifier.ready()
        assert manager.recv(100) == b"READY=1"

        async def watch():
            async with asyncio.timeout(0.2):
                await notifier.watchdog()

        with pytest.raises(TimeoutError):
            asyncio.run(watch())
        assert manager.recv(100) == b"WATCHDOG=1"
        assert manager.recv(100) == b"WATCHDOG=1"


def test_without_a_manager_nothing_is_said_and_nothing_fails():
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": "/nowhere/x"}).stopping()


@pytest.mark.parametrize(("fmt", "reads"), [("json", json.loads), ("logfmt", str)])
def test_logs_have_an_event_and_its_fields(fmt, reads):
    out = io.StringIO()
    logging.configure(fmt=fmt, stream=out)
    try:
        structlog.get_logger().info("address allocated", address="10.0.0.1", pod="")
        structlog.get_logger().debug("not shown")
        line = out.getvalue()
        assert line.count("\n") == 1
        found = reads(line)
        assert "address allocated" in str(found)
        assert "10.0.0.1" in str(found)
        assert "pod" not in str(found)
    finally:
        structlog.reset_defaults()


def test_a_closed_stream_does_not_end_the_program():
    out = io.StringIO()
    logging.configure(fmt="json", stream=out)
    try:
        out.close()
        structlog.get_logger().error("nobody hears")
    finally:
        structlog.reset_defaults()


def test_the_boot_is_named_and_its_clock_runs():
    assert len(clock.boot_id()) == 36
    first = clock.boottime()
    assert clock.boottime() >= first > 0
    assert "/" not in clock.utc_stamp()
