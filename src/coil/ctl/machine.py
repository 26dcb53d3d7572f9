"""What this machine has: programs and their versions."""

from __future__ import annotations

import shutil
import subprocess

_SECONDS = 5.0


def version_of_program(program: str) -> str:
    """First line of ``program --version``; empty when it is missing or doesn't tell."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.splitlines() or [""])[0]
