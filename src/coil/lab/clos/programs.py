"""The programs that run in the lab's namespaces, found by asking the kernel.

No process id is kept anywhere: one that was written down may be another program's by now, and one
that was to be written down is lost when the writer is killed. What runs in a namespace of the lab
is the lab's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coil.lab.host import Host
from coil.lab.suspend import is_suspended
from coil.lab.wait import until

_PROC = Path("/proc")
_LISTEN = "0A"
"""TCP_LISTEN of include/net/tcp_states.h."""
LAUNCHER = "setsid"
"""What a program is called for the moment before it is executed."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process that runs in a namespace of the lab."""

    pid: int
    name: str
    """The kernel's: the base name of what was executed (proc(5), comm)."""
    suspended: bool
    host: Host

    def listens(self, port: int) -> bool:
        """Whether somebody in its namespace listens on this TCP port of 127.0.0.1 (proc(5))."""
        try:
            lines = (_PROC / str(self.pid) / "net" / "tcp").read_text().splitlines()
        except OSError:
            return False
        rows = [line.split() for line in lines[1:]]
        return any(row[1].endswith(f":{port:04X}") and row[3] == _LISTEN for row in rows)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to nobody when the process has ended, whoever has its number now."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
            handle = os.pidfd_open(self.pid)
            try:
                # The handle names a process for good; that it is ours is looked at once more.
                if _place(self.pid) == _identity(self.host.path):
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def programs_of(hosts: Iterable[Host]) -> dict[Host, list[Program]]:
    """What runs in each of these namespaces; nothing in those that are gone."""
    found: dict[Host, list[Program]] = {host: [] for host in hosts}
    places = {_identity(host.path): host for host in found}
    places.pop(None, None)
    for path in _PROC.iterdir():
        if path.name.isdigit() and (host := places.get(_place(int(path.name)))):
            found[host] += _read(int(path.name), host)
    return found


def executed_programs_of(hosts: Iterable[Host]) -> dict[Host, list[Program]]:
    """As ``programs_of``, when all that has just been launched is executed.

    It is waited for: until then nobody can tell what it will be.
    """
    places = list(hosts)
    found: dict[Host, list[Program]] = {}

    def all_executed() -> bool:
        found.update(programs_of(places))
        return all(p.name != LAUNCHER for programs in found.values() for p in programs)

    until(all_executed, "what is launched is executed")
    return found


def find_program(host: Host, name: str) -> Program | None:
    """The program of that name, if it runs; one that has just been launched does."""
    found = executed_programs_of([host])[host]
    return next((program for program in found if program.name == name), None)


def launch(host: Host, *argv: str | Path, log: Path, env: dict[str, str] | None = None) -> None:
    """Start a program that outlives this process, in a session of its own; don't wait for it.

    It is in its namespace when this returns. ``log``: where its output is appended.
    """
    with log.open("ab") as output:
        subprocess.run(
            host.inside(LAUNCHER, "--fork", *argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            check=True,
            timeout=30,
        )


def end_all(hosts: Iterable[Host]) -> None:
    """Kill all that runs in these namespaces, as a loss of power does, and wait until it ended."""
    places = list(hosts)

    def all_gone() -> bool:
        left = [p for programs in programs_of(places).values() for p in programs]
        for program in left:
            program.signal(signal.SIGKILL)
        return not left

    until(all_gone, "all programs end", 30)


def _read(pid: int, host: Host) -> list[Program]:
    """The process as proc_pid_stat(5) describes it; none when it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    name = text[text.index("(") + 1 : text.rindex(")")]
    state = text[text.rindex(")") + 2]
    return [Program(pid, name, is_suspended(pid), host)] if state not in "ZX" else []


def _place(pid: int) -> tuple[int, int] | None:
    return _identity(_PROC / str(pid) / "ns" / "net")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which namespace a path leads to; None when it leads nowhere, as that of a zombie does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
