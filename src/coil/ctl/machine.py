"""What this machine has: programs and their versions, and where its runtime looks for plugins."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coil.cni.versions import NEWEST

_SECONDS = 5.0
_CRI = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")
"""What holds the CNI settings of containerd 2, and of 1.x."""
_FIRST_WITH_1_1 = (("containerd", (2, 0)), ("podman", (5, 0)))
"""Before these they refuse results of CNI 1.1.0, or know 1.0.0 at most."""
_ASK_VERSION = {
    "CNI_COMMAND": "VERSION",
    # For plugins older than the rule that VERSION needs none of them.
    **dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "dummy"),
}


@dataclass(frozen=True, slots=True)
class CniPaths:
    """Where a runtime looks for plugins, and for configurations."""

    plugins: tuple[Path, ...]
    configurations: Path = Path("/etc/cni/net.d")

    def find_plugin(self, name: str) -> Path | None:
        """The plugin that the runtime would run; runtimes take no paths as names."""
        there = (directory / name for directory in self.plugins if "/" not in name)
        return next((path for path in there if path.exists()), None)


_CONTAINERD = CniPaths((Path("/opt/cni/bin"),))
"""Unless it is told otherwise, as Debian's is."""
_OTHERS = CniPaths((Path("/opt/cni/bin"), Path("/usr/lib/cni")))


def cni_paths() -> CniPaths:
    """Where the runtime of this machine looks, by the configuration of its containerd.

    What it imports and its defaults are in it. Without a containerd: where podman looks.
    """
    if shutil.which("containerd") is None:
        return _OTHERS
    return parse_containerd(_output_of("containerd", "config", "dump"))


def parse_containerd(config: str) -> CniPaths:
    """What containerd's configuration says; its defaults where it says nothing."""
    try:
        plugins = tomllib.loads(config)["plugins"]
        cni = next(plugins[name]["cni"] for name in _CRI if "cni" in plugins.get(name, {}))
        directories = cni.get("bin_dirs") or [cni["bin_dir"]]
        return CniPaths(tuple(map(Path, directories)), Path(cni["conf_dir"]))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return _CONTAINERD


def version_of_program(program: str) -> str:
    """First line of ``program --version``; empty when it is missing or doesn't tell."""
    return (_output_of(program, "--version").splitlines() or [""])[0]


def best_version() -> str:
    """The newest CNI version that every runtime found on this machine takes.

    A machine without a runtime gets what all of today's take.
    """
    limits = []
    for program, first_new in _FIRST_WITH_1_1:
        if shutil.which(program):
            match = re.search(r"(\d+)\.(\d+)", version_of_program(program))
            version = (int(match[1]), int(match[2])) if match else (0, 0)
            limits.append("1.1.0" if version >= first_new else "1.0.0")
    return min(limits, default="1.0.0")


def versions_of_plugin(plugin: Path) -> list[str]:
    """The CNI versions that a plugin speaks; none when it doesn't tell."""
    asked = json.dumps({"cniVersion": NEWEST})
    answer = _output_of(str(plugin), environment=_ASK_VERSION, stdin=asked)
    try:
        return list(map(str, json.loads(answer)["supportedVersions"]))
    except (ValueError, KeyError, TypeError):
        return []


def _output_of(*command: str, environment: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Standard output of a program; empty when it is missing or hangs."""
    try:
        done = subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
