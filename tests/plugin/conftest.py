"""The built executable, plain and under sanitizers, and peers that misbehave on purpose."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"


@pytest.fixture(scope="session")
def built():
    """The sanitized executable and the fuzz harness, made once."""
    subprocess.run(
        ["make", "-s", "-C", ROOT / "plugin", "sanitize", "fuzz"], check=True, timeout=110
    )
    return BUILD


@pytest.fixture(params=["coil", "coil-asan"])
def plugin(request, built):
    return built / request.param


class Result:
    def __init__(self, done):
        self.status = done.returncode
        self.raw = done.stdout
        self.stderr = done.stderr
        try:
            self.json = json.loads(done.stdout)
        except ValueError:
            self.json = None


def call(plugin, stdin=b"", seconds=20, **variables):
    """Run the plugin with exactly these variables (and what the sanitizers need)."""
    environment = {os.fsencode(k): os.fsencode(v) for k, v in variables.items()}
    environment[b"ASAN_OPTIONS"] = b"detect_leaks=0"
    if isinstance(stdin, dict):
        stdin = json.dumps(stdin)
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run(
        [plugin], input=stdin, env=environment, capture_output=True, timeout=seconds
    )
    assert b"ERROR: AddressSanitizer" not in done.stderr, done.stderr.decode()
    assert b"runtime error" not in done.stderr, done.stderr.decode()
    return Result(done)


def netconf(path, **more):
    return {"cniVersion": "1.0.0", "name": "n", "type": "coil", "socket": str(path), **more}


def answer(body=b"{}\n", status="200 OK"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Peer:
    """Plays coild: each connection is handled by the next of ``acts``, the last one for ever."""

    def __init__(self, path, *acts):
        self.path = path
        self.acts = list(acts)
        self.requests = []
        self.connections = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(128)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                with connection, contextlib.suppress(OSError):
                    act(self, connection)

    def read(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return data
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append((head, body))
        return head

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


def replies(data):
    def act(peer, connection):
        peer.read(connection)
        connection.sendall(data)

    return act


def hangs_up(peer, connection):
    peer.read(connection)


@pytest.fixture
def peer(tmp_path):
    made = []

    def make(*acts, name="s"):
        made.append(Peer(tmp_path / name, *acts))
        return made[-1]

    yield make
    for one in made:
        one.close()
