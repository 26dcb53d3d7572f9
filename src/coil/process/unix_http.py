"""A client of HTTP on a Unix socket: how coild is asked by other programs of its machine."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("coil", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect; called by the base class."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(path: Path, method: str, target: str, *, seconds: float = 30.0) -> tuple[int, object]:
    """Send one request; return the status and the decoded JSON of the answer.

    Raises OSError when nobody answers in time, HTTPException and ValueError for what is neither
    HTTP nor JSON.
    """
    connection = _UnixConnection(path, seconds)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
