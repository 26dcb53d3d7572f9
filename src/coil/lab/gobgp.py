"""GoBGP on a host of the lab: gobgpd with a configuration of ours, and coil-gobgp beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from coil.lab.errors import LabError
from coil.lab.host import Host, end
from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from coil.routing.gobgp import gobgp_config
from coil.routing.model import Router
from coil.speakers.errors import SpeakerUnavailable
from coil.speakers.gobgp import Gobgp


class GobgpRouter:
    """One gobgpd and its coil-gobgp, all files in ``directory``."""

    def __init__(
        self, host: Host, router: Router, directory: Path, program: str | Path = "gobgpd"
    ) -> None:
        self.host = host
        self.router = router
        self.directory = directory
        self.config = directory / "gobgpd.toml"
        self.endpoint = f"unix:{directory / 'gobgp.sock'}"
        self._program = program
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start both. Raises LabError."""
        self.start_gobgpd()
        self.start_bridge()

    def start_gobgpd(self) -> None:
        """Write the configuration, start gobgpd and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(gobgp_config(self.router))
        # One that was killed has left it behind, and the next does not start for that.
        (self.directory / "gobgp.sock").unlink(missing_ok=True)
        # Its endpoint is written as a URL, ours as gRPC names it.
        hosts = self.endpoint.replace("unix:", "unix://")
        self._run("gobgpd", self._program, "-f", self.config, "--api-hosts", hosts)
        until(self._answers, f"gobgpd of {self.router.name} answers")

    def start_bridge(self, *options: str) -> None:
        """Start coil-gobgp."""
        self._run(
            "coil-gobgp", PROGRAMS / "coil-gobgp", f"--gobgp={self.endpoint}",
            f"--export-table={self.router.export_table}", f"--protocol={self.router.protocol}",
            *options,
        )  # fmt: skip

    def _run(self, name: str, *argv: str | Path) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = self.host.start(*argv, log=log)

    def _answers(self) -> bool:
        if self._processes["gobgpd"].poll() is not None:
            raise LabError(f"gobgpd ended at once: {self.read_log('gobgpd')[-2000:]}")
        try:
            with Gobgp(self.endpoint) as gobgp:
                gobgp.list_routes()
        except SpeakerUnavailable:
            return False
        return True

    def read_log(self, name: str) -> str:
        """What ``gobgpd`` or ``coil-gobgp`` has said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """End one of the two with SIGKILL."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self) -> None:
        """End both; the routes stay. Idempotent."""
        for process in self._processes.values():
            end(process)
