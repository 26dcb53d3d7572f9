"""A containerd of our own in a host's namespace, with its own state and CNI directories."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coil.lab.cri import Cri
from coil.lab.errors import LabError
from coil.lab.host import Host, end, run, unmount_below
from coil.lab.image import oci_archive
from coil.lab.wait import until

IMAGE = "coil.invalid/busybox:1"
DEBIAN_PLUGINS = Path("/usr/lib/cni")

# restrict_oom_score_adj: runc fails where the machine withholds CAP_SYS_RESOURCE, as CI does.
_CONFIG = """
version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/bin"
    conf_dir = "{dir}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """A running containerd."""

    directory: Path
    cri: Cri

    @property
    def bin_dir(self) -> Path:
        """Where its CNI plugins are."""
        return self.directory / "bin"

    @property
    def conf_dir(self) -> Path:
        """Where it looks for CNI configurations."""
        return self.directory / "net.d"

    def configure(self, name: str, content: str) -> None:
        """Put a CNI configuration in place in one step, and wait until the runtime has it."""
        temporary = self.conf_dir / f".{name}"
        temporary.write_text(content)
        temporary.rename(self.conf_dir / name)
        until(self.cri.network_ready, "containerd takes the CNI configuration")


@contextlib.contextmanager
def containerd(host: Host, directory: Path, *plugins: Path) -> Iterator[Containerd]:
    """Run containerd in ``host``; ``plugins`` are put beside Debian's CNI plugins.

    At the end its sandboxes are removed, and it and all that it started are gone.
    """
    for name in ("bin", "net.d"):
        (directory / name).mkdir(parents=True)
    for plugin in (*DEBIAN_PLUGINS.iterdir(), *plugins):
        shutil.copy2(plugin, directory / "bin" / plugin.name)
    config = directory / "config.toml"
    config.write_text(_CONFIG.format(dir=directory, image=IMAGE))
    with (directory / "containerd.log").open("wb") as log:
        process = host.start("containerd", "--config", config, log=log)
        try:
            socket = directory / "containerd.sock"
            with Cri(socket) as cri:
                _wait_up(process, cri, directory)
                _import_image(directory, socket)
                running = Containerd(directory, cri)
                try:
                    yield running
                finally:
                    _remove_sandboxes(cri)
        finally:
            end(process)
            _kill_shims(directory)
            unmount_below(directory)


def _wait_up(process: subprocess.Popen[bytes], cri: Cri, directory: Path) -> None:
    def is_up() -> bool:
        if process.poll() is not None:
            log = (directory / "containerd.log").read_text()[-2000:]
            raise LabError(f"containerd ended at once: {log}")
        return cri.is_up()

    until(is_up, "containerd answers", 30)


def _import_image(directory: Path, socket: Path) -> None:
    archive = directory / "image.tar"
    archive.write_bytes(oci_archive(IMAGE))
    run(["ctr", "-a", str(socket), "-n", "k8s.io", "images", "import", str(archive)])


def _remove_sandboxes(cri: Cri) -> None:
    with contextlib.suppress(LabError):
        for pod_id in cri.pod_ids():
            with contextlib.suppress(LabError):
                cri.remove_pod(pod_id)


def _kill_shims(directory: Path) -> None:
    """Shims outlive containerd; ours have our socket's path on their command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if b"containerd-shim" in command and str(directory).encode() in command:
                os.kill(int(entry.name), signal.SIGKILL)
