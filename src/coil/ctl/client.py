"""A client of coild's API on its Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

from coil.domain.errors import CoilError

_SECONDS = 30.0


class DaemonUnavailable(CoilError):
    """coild could not be asked."""


class DaemonRefused(CoilError):
    """coild answered with an error; its message is for people."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("coil", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect; called by the base class."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def ask(socket_path: Path, method: str, path: str, **query: str) -> object:
    """Send one request and return the decoded answer.

    Raises DaemonUnavailable when nobody answers, DaemonRefused for an answer that is an error.
    """
    target = f"{path}?{urlencode(query)}" if query else path
    connection = _UnixConnection(socket_path)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise DaemonUnavailable(
            f"coild does not answer on {socket_path} ({reason}); is it running on this node? "
            "Name another socket with --socket"
        ) from exc
    except http.client.HTTPException as exc:
        raise DaemonUnavailable(f"{socket_path} does not speak HTTP: is it coild's?") from exc
    finally:
        connection.close()
    found = json.loads(body)
    if response.status != http.client.OK:
        raise DaemonRefused(str(found.get("error", body.decode())))
    return found


def ask_object(socket_path: Path, method: str, path: str, **query: str) -> dict[str, object]:
    """As ``ask``, for an endpoint that answers with an object."""
    return cast("dict[str, object]", ask(socket_path, method, path, **query))


def ask_list(socket_path: Path, path: str) -> list[dict[str, object]]:
    """As ``ask``, for an endpoint that answers with a list of objects."""
    return cast("list[dict[str, object]]", ask(socket_path, "GET", path))
