"""Hosts: network namespaces that play a machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from coil.lab.errors import LabError

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Host:
    """A named network namespace and how to run programs in it.

    Programs are started by nsenter: ``ip netns exec`` would hide the cgroup mounts from them.
    """

    name: str

    @property
    def path(self) -> Path:
        """The namespace's file."""
        return Path("/run/netns", self.name)

    def inside(self, *argv: str | Path) -> list[str]:
        """The command line that runs ``argv`` in this namespace."""
        return ["nsenter", f"--net={self.path}", *map(str, argv)]

    def run(
        self, *argv: str | Path, check: bool = True, seconds: float = 30.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. Raises LabError with its output when it fails."""
        return run(self.inside(*argv), check=check, seconds=seconds, **options)

    def start(self, *argv: str | Path, log: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, its output going to ``log``."""
        return subprocess.Popen(
            self.inside(*argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **options,
        )

    def ip(self, *words: str) -> Any:
        """What ``ip -j`` says in this namespace."""
        return json.loads(self.run("ip", "-j", *words).stdout or "[]")


def run(
    argv: list[str], *, check: bool = True, seconds: float = 30.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises LabError with its output when it fails or hangs."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=seconds, check=False, **options
        )
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"{' '.join(argv)}: still running after {seconds:.0f} s") from exc
    if check and done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {output}")
    return done


@contextlib.contextmanager
def host(prefix: str = "coil") -> Iterator[Host]:
    """A fresh host with loopback up; deleted at the end, whatever happened."""
    made = Host(f"{prefix}-{os.getpid()}-{next(_numbers)}")
    run(["ip", "netns", "add", made.name])
    try:
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        run(["ip", "netns", "delete", made.name], check=False)


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> int:
    """Ask a program to end; kill it when it does not. Returns its exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(seconds)


def unmount_below(directory: Path) -> None:
    """Take away what is still mounted below ``directory``, the innermost first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        run(["umount", "--lazy", mount], check=False)
