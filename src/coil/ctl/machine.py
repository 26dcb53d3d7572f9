"""What this machine has: programs and their versions."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

_SECONDS = 5.0
_CONTAINERD = Path("/etc/containerd/config.toml")
_CRI = "io.containerd.grpc.v1.cri"
_PLUGINS = Path("/opt/cni/bin")
"""Where runtimes look for plugins unless they are told otherwise, as Debian's containerd is."""


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


def plugin_directory(config: Path = _CONTAINERD) -> Path:
    """Where the containerd of this machine looks for CNI plugins, by its configuration."""
    try:
        found = tomllib.loads(config.read_text(encoding="utf-8"))
        return Path(found["plugins"][_CRI]["cni"]["bin_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return _PLUGINS
