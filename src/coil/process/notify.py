"""Tells systemd how we are (sd_notify(3)); does nothing where nobody asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

import structlog

from coil import __version__
from coil.process.supervise import Supervisor

_log = structlog.get_logger()


class Notifier:
    """Sends datagrams to NOTIFY_SOCKET. Never raises: a deaf manager is no reason to fail."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._watchdog_seconds = _watchdog_seconds(environment)

    async def serve(self, supervisor: Supervisor, **about: str) -> None:
        """Tell that the program serves, also the log with what is said ``about`` it, until its end.

        Returns when the program is told to stop.
        """
        self.ready()
        _log.info("serving", version=__version__, **about)
        await supervisor.wait_stopping()
        self.stopping()

    def ready(self) -> None:
        """The program serves."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The program is ending."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for people, shown by systemctl status."""
        self._send("STATUS=" + " ".join(text.split()))  # a line break would begin another variable

    async def watchdog(self) -> None:
        """Say for ever that the loop turns, twice per period systemd waits for it."""
        if not self._watchdog_seconds:
            await asyncio.Event().wait()
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sock:
            sock.sendto(message.encode(), self._address)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """The period in seconds, 0 when there is none or it is meant for another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    meant_for = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or meant_for != str(os.getpid()):
        return 0.0
    return int(microseconds) / 1e6
