"""podman with its CNI backend, with storage and configuration of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coil.lab.containerd import DEBIAN_PLUGINS
from coil.lab.host import Host, unmount_below
from coil.lab.image import root_tar

IMAGE = "localhost/coil-busybox:1"

_CONFIG = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["{dir}/bin"]
network_config_dir = "{dir}/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# runc may not raise limits where the machine withholds CAP_SYS_RESOURCE.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


@dataclass(frozen=True, slots=True)
class Podman:
    """podman in a host's namespace."""

    host: Host
    directory: Path
    runroot: str
    """podman takes at most 50 characters here."""

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``podman WORDS``."""
        environment = {**os.environ, "CONTAINERS_CONF": f"{self.directory}/containers.conf"}
        storage = ("--root", f"{self.directory}/root", "--runroot", self.runroot)
        return self.host.run(
            "podman", *storage, "--storage-driver", "vfs", *words, check=check, env=environment
        )

    def run(self, name: str, network: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Start a container in a network; returns its id."""
        words = ("run", "-d", "--name", name, "--network", network, *_LIMITS, *options)
        return self(*words, IMAGE, *command).stdout.strip()

    def configure(self, name: str, content: str) -> None:
        """Put a network configuration in place."""
        (self.directory / "net.d" / name).write_text(content)


@contextlib.contextmanager
def podman(host: Host, directory: Path, *plugins: Path) -> Iterator[Podman]:
    """Offer podman with ``plugins`` beside Debian's; its containers are removed at the end."""
    for name in ("bin", "net.d"):
        (directory / name).mkdir(parents=True)
    for plugin in (*DEBIAN_PLUGINS.iterdir(), *plugins):
        shutil.copy2(plugin, directory / "bin" / plugin.name)
    (directory / "containers.conf").write_text(_CONFIG.format(dir=directory))
    (directory / "image.tar").write_bytes(root_tar())
    with tempfile.TemporaryDirectory(prefix="coil-") as runroot:
        made = Podman(host, directory, runroot)
        made("import", str(directory / "image.tar"), IMAGE)
        try:
            yield made
        finally:
            made("rm", "-a", "-f", "-t", "0", check=False)
            unmount_below(directory)
            unmount_below(Path(runroot))
