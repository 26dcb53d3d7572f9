"""BIRD on a host of the lab: a process with a configuration of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from coil.lab.errors import LabError
from coil.lab.host import Host, end
from coil.lab.wait import until
from coil.routing.bird import bird_config
from coil.routing.model import Router


class Bird:
    """One BIRD. Its files lie in ``directory``: configuration, control socket, log."""

    def __init__(self, host: Host, router: Router, directory: Path) -> None:
        self.host = host
        self.router = router
        self.config = directory / "bird.conf"
        self.socket = directory / "bird.ctl"
        self.log = directory / "bird.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def command(self) -> list[str | Path]:
        """What is started, once the configuration is written."""
        return ["bird", "-f", "-c", self.config, "-s", self.socket]

    def write_config(self) -> None:
        """Write what coilctl router-config prints for this router."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(bird_config(self.router))

    def start(self) -> None:
        """Write the configuration, start BIRD and wait until it answers. Raises LabError."""
        self.write_config()
        with self.log.open("ab") as log:
            self._process = self.host.start(*self.command, log=log)
        until(self._answers, f"BIRD of {self.router.name} answers")

    def _answers(self) -> bool:
        if self.pid is None:
            text = self.log.read_text(errors="replace")
            raise LabError(f"BIRD of {self.router.name} ended at once: {text[-2000:]}")
        return self.socket.exists() and self.ctl("show", "status", check=False).returncode == 0

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run birdc on it."""
        return self.host.run("birdc", "-r", "-s", self.socket, *words, check=check)

    def kill(self) -> None:
        """End it with SIGKILL: the routes it made stay in the kernel."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it; its routes go with it. Idempotent."""
        if self._process is not None:
            end(self._process)
