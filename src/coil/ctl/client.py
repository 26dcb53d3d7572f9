"""A client of coild's API on its Unix socket."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

from coil.domain.errors import CoilError, RequestError
from coil.process.unix_http import request


class DaemonUnavailable(CoilError):
    """coild could not be asked."""


class DaemonRefused(CoilError):
    """coild answered with an error; its message is for people."""


def ask(socket_path: Path, method: str, path: str, **query: str) -> object:
    """Send one request and return the decoded answer.

    Raises DaemonUnavailable when nobody answers, RequestError for a question that cannot be,
    DaemonRefused for an answer that is another error.
    """
    target = f"{path}?{urlencode(query)}" if query else path
    try:
        status, found = request(socket_path, method, target)
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise DaemonUnavailable(
            f"coild does not answer on {socket_path} ({reason}); is it running on this node? "
            "Name another socket with --socket"
        ) from exc
    except (http.client.HTTPException, ValueError) as exc:
        raise DaemonUnavailable(f"{socket_path} does not speak HTTP: is it coild's?") from exc
    if status != http.client.OK:
        error = str((found.get("error") if isinstance(found, dict) else None) or found)
        raise RequestError(error) if status == http.client.BAD_REQUEST else DaemonRefused(error)
    return found


def ask_object(socket_path: Path, method: str, path: str, **query: str) -> dict[str, object]:
    """As ``ask``, for an endpoint that answers with an object."""
    return cast("dict[str, object]", ask(socket_path, method, path, **query))


def ask_list(socket_path: Path, path: str) -> list[dict[str, object]]:
    """As ``ask``, for an endpoint that answers with a list of objects."""
    return cast("list[dict[str, object]]", ask(socket_path, "GET", path))
