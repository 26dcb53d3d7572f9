"""Programs that stand still: silent to everybody, as on a machine that hangs, until let go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from coil.lab.wait import until


def suspend(pid: int) -> None:
    """Stop a process; when this returns none of its threads does anything more. Idempotent.

    The signal alone is not enough: a thread that runs on another processor answers its callers
    until the kernel has interrupted it. Raises ProcessLookupError where there is no such process.
    """
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_suspended(pid), f"process {pid} stands still")


def is_suspended(pid: int) -> bool:
    """Whether every thread of a process is stopped (proc_pid_stat(5), state T)."""
    states = [_state(task) for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(states) and all(state in "TXZ" for state in states) and "T" in states


def resume(pid: int) -> None:
    """Let a process go on. Idempotent. Raises ProcessLookupError where there is none."""
    os.kill(pid, signal.SIGCONT)


def _state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended
        return "X"
