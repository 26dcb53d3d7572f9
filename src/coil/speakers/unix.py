"""A question and its answer on a daemon's Unix socket."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from coil.speakers.errors import SpeakerUnavailable

SECONDS = 10.0
"""For one conversation: a daemon that loads a configuration is silent for a moment."""
_CHUNK = 1 << 16
_LARGEST = 1 << 26
"""Bytes of an answer; a full table of 20,000 routes has a tenth of that."""


class Conversation:
    """An open socket, for a limited time."""

    def __init__(self, sock: socket.socket, name: str, seconds: float) -> None:
        self._socket = sock
        self._name = name
        self._until = time.monotonic() + seconds
        self._rest = b""

    def say(self, text: str, end: bytes) -> None:
        """Send a line. Raises SpeakerUnavailable, as all here."""
        with _errors(self._name):
            self._socket.sendall(text.encode() + end)

    def hear(self, find_end: Callable[[bytes], int]) -> bytes:
        """Receive until ``find_end`` tells where the answer ends (0: not yet)."""
        while not (end := find_end(self._rest)):
            with _errors(self._name):
                self._socket.settimeout(max(0.01, self._until - time.monotonic()))
                chunk = self._socket.recv(_CHUNK)
            if not chunk or len(self._rest) > _LARGEST:
                raise SpeakerUnavailable(
                    f"{self._name} closed its socket in the middle of an answer"
                )
            self._rest += chunk
        answer, self._rest = self._rest[:end], self._rest[end:]
        return answer


@contextlib.contextmanager
def conversation(path: Path, daemon: str, seconds: float) -> Iterator[Conversation]:
    """Connect to ``path``. Raises SpeakerUnavailable, also after so many seconds."""
    name = f"{daemon} on {path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds)
        with _errors(name):
            sock.connect(str(path))
        yield Conversation(sock, name, seconds)


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc) or type(exc).__name__
        raise SpeakerUnavailable(f"{name} does not answer ({reason})") from exc
