"""A host that runs coild, from the programs of this checkout or installation."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import OK, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from coil.lab.errors import LabError
from coil.lab.host import Host, end
from coil.lab.suspend import resume, suspend
from coil.lab.wait import until
from coil.process.unix_http import request

PROGRAMS = Path(sys.executable).parent
_END_SECONDS = 90
"""For a coild that ends at a step which a busy machine comes to late."""
PLUGIN = Path(__file__).resolve().parents[3] / "build" / "coil"


class Node:
    """coild of one host; its store is shared with whoever is given the same URL."""

    def __init__(
        self, host: Host, directory: Path, *, name: str = "node1", store: str = ""
    ) -> None:
        self.host = host
        self.directory = directory
        self.name = name
        self.store = store or f"sqlite://{directory}/store.db"
        self.socket = directory / "coild.sock"
        self.log = directory / "coild.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start coild and wait until it serves. Raises LabError with its log."""
        self.launch(PROGRAMS / "coild", *options)
        until(self._serves, f"coild of {self.name} serves")

    def launch(self, *program: str | Path) -> None:
        """Start ``program`` as this node's coild; don't wait."""
        with self.log.open("ab") as log:
            self._process = self.host.start(*self.command(*program), log=log)

    def command(self, *program: str | Path) -> list[str | Path]:
        """What makes ``program`` this node's coild."""
        return [
            *program,
            f"--node-name={self.name}",
            f"--store={self.store}",
            f"--socket={self.socket}",
            f"--state-dir={self.directory}/state",
            # Not those of the machine that the hosts are namespaces of.
            f"--bird-socket={self.directory}/bird.ctl",
            f"--frr-socket={self.directory}/bgpd.vty",
        ]

    def _serves(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"coild ended at once: {self.log.read_text()[-2000:]}")
        with contextlib.suppress(LabError):
            return bool(self.ask("/ready"))
        return False

    def wait_ended(self) -> int:
        """Wait until coild has ended by itself; its exit status."""
        process = self._process
        return process.wait(_END_SECONDS) if process is not None else 0

    def suspend(self) -> None:
        """Coild does nothing more until it is let go on."""
        if self._process is not None:
            suspend(self._process.pid)

    def resume(self) -> None:
        """Coild goes on. Idempotent."""
        if self._process is not None:
            resume(self._process.pid)

    def kill(self) -> None:
        """End coild with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """End coild with SIGTERM; returns its exit status."""
        return end(self._process) if self._process is not None else 0

    def ask(self, path: str, *, seconds: float = 30.0, **query: str) -> Any:
        """What coild's API says there (docs/api.md). Raises LabError when it does not.

        Whoever polls asks here: coilctl takes as long to start as coild does.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            status, answer = request(self.socket, "GET", target, seconds=seconds)
        except (OSError, HTTPException, ValueError) as exc:
            raise LabError(f"coild of {self.name} does not answer: {exc}") from exc
        if status != OK:
            raise LabError(f"coild of {self.name} answers {path} with {status}: {answer}")
        return answer

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run coilctl for this node."""
        environment = {**os.environ, "COIL_STORE": self.store, "COIL_SOCKET": str(self.socket)}
        return self.host.run(PROGRAMS / "coilctl", *words, check=check, env=environment)


@contextlib.contextmanager
def node(host: Host, directory: Path, *subnets: str, name: str = "node1") -> Iterator[Node]:
    """A node with a pool ``default`` of these subnets, whose coild runs."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Node(host, directory, name=name)
    made.ctl("pool", "create", "default", *subnets)
    try:
        made.start()
        yield made
    finally:
        made.stop()
