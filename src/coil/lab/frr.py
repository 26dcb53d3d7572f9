"""FRR on a host of the lab: zebra, bgpd and bfdd with a configuration of ours."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from coil.lab.errors import LabError
from coil.lab.host import Host, end
from coil.lab.wait import until
from coil.routing.frr import frr_config
from coil.routing.model import Router

_PROGRAMS = Path("/usr/lib/frr")
_DAEMONS = ("zebra", "bgpd", "bfdd")


class Frr:
    """One FRR, all its files in ``directory`` (which the user frr must be able to enter)."""

    def __init__(self, host: Host, router: Router, directory: Path) -> None:
        self.host = host
        self.router = router
        self.sockets = directory
        self.config = directory / "frr.conf"
        self.zserv = directory / "zserv.api"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, daemons: tuple[str, ...] = _DAEMONS, config: str = "") -> None:
        """Start ``daemons`` and load the configuration. Raises LabError."""
        self.sockets.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.sockets, "frr", "frr")
        self.config.write_text(config or frr_config(self.router))
        for name in daemons:
            self._start(name)
            what = f"{name} of {self.router.name} answers"
            until(functools.partial(self._answers, name), what)
        self.vtysh("-b")

    def _start(self, name: str) -> None:
        empty = self.sockets / f"{name}.conf"
        empty.touch()
        argv: list[str | Path] = [
            _PROGRAMS / name, "-f", empty, "-i", self.sockets / f"{name}.pid", "-z", self.zserv,
            "--vty_socket", self.sockets, "--log", f"file:{self.sockets / name}.log", "-P", "0",
        ]  # fmt: skip
        if name == "bfdd":
            argv += ["--bfdctl", self.sockets / "bfdd.sock"]
        with (self.sockets / f"{name}.out").open("ab") as log:
            self._processes[name] = self.host.start(*argv, log=log)

    def _answers(self, name: str) -> bool:
        if self._processes[name].poll() is not None:
            raise LabError(f"{name} ended at once: {self.read_log(name)[-2000:]}")
        return (self.sockets / f"{name}.vty").exists() and self.zserv.exists()

    def read_log(self, name: str) -> str:
        """What a daemon has said."""
        found = (self.sockets / f"{name}.out", self.sockets / f"{name}.log")
        return "".join(path.read_text(errors="replace") for path in found if path.exists())

    def vtysh(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run vtysh on it."""
        options = ("--vty_socket", self.sockets, "--config_dir", self.sockets)
        return self.host.run("vtysh", *options, *words, check=check)

    def stop(self) -> None:
        """End it; its routes go with it. Idempotent."""
        for name in reversed(self._processes):
            end(self._processes[name])
