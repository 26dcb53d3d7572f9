"""podman with its CNI backend, with storage and configuration of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coil.lab.containerd import link_plugins
from coil.lab.errors import LabError
from coil.lab.host import Host
from coil.lab.image import root_tar
from coil.lab.leftovers import (
    delete_namespaces,
    end_group,
    forget_results,
    groups_below,
    namespaces_of,
    unmount_below,
)

IMAGE = "localhost/coil-busybox:1"

# tmp_dir, lock_type: else the machine's own podman and this one share /run/libpod and the
# semaphores in /dev/shm.
_CONFIG = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["{dir}/bin"]
network_config_dir = "{dir}/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{runroot}/tmp"
"""
# runc may not raise limits where the machine withholds CAP_SYS_RESOURCE.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


@dataclass(frozen=True, slots=True)
class Podman:
    """podman in a host's namespace; its containers are in a control group named after the host."""

    host: Host
    directory: Path
    runroot: str
    """podman takes at most 50 characters here."""

    def __call__(
        self, *words: str, check: bool = True, seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run ``podman WORDS``. Raises LabError with its output when it fails or hangs."""
        environment = {**os.environ, "CONTAINERS_CONF": f"{self.directory}/containers.conf"}
        storage = ("--root", f"{self.directory}/root", "--runroot", self.runroot)
        state = ("--storage-driver", "vfs", "--runtime-flag", f"root={self.runroot}/runc")
        return self.host.run(
            *("podman", *storage, *state, *words), check=check, seconds=seconds, env=environment
        )

    def run(self, name: str, network: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Start a container in a network; returns its id."""
        group = ("--cgroup-parent", f"/{self.host.name}")
        words = ("run", "-d", "--name", name, "--network", network, *group, *_LIMITS, *options)
        return self(*words, IMAGE, *command).stdout.strip()

    def configure(self, name: str, content: str) -> None:
        """Put a network configuration in place; podman reads them at every start."""
        (self.directory / "net.d" / name).write_text(content)

    def start(self, *plugins: Path) -> None:
        """Make its configuration and its image, ``plugins`` beside Debian's. Raises LabError."""
        (self.directory / "net.d").mkdir(parents=True)
        link_plugins(self.directory / "bin", *plugins)
        config = _CONFIG.format(dir=self.directory, runroot=self.runroot)
        (self.directory / "containers.conf").write_text(config)
        (self.directory / "image.tar").write_bytes(root_tar())
        self("import", str(self.directory / "image.tar"), IMAGE)

    def stop(self) -> None:
        """Remove the containers, by force where podman cannot, and what else is left of them."""
        with contextlib.ExitStack() as stack:
            stack.callback(unmount_below, self.directory)
            # Asked of the kernel, and first: podman may be what is broken.
            group = self.host.name
            names = [name.removeprefix("libpod-") for name in groups_below(group)]
            stack.callback(forget_results, names)
            stack.callback(delete_namespaces, namespaces_of(group) - {self.host.path})
            stack.callback(end_group, group)
            with contextlib.suppress(LabError):
                self("rm", "-a", "-f", "-t", "0")


@contextlib.contextmanager
def podman(host: Host, directory: Path, *plugins: Path) -> Iterator[Podman]:
    """Offer podman with ``plugins`` beside Debian's; its containers are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="coil-", dir="/run") as runroot:
        made = Podman(host, directory, runroot)
        try:
            made.start(*plugins)
            yield made
        finally:
            made.stop()
