"""A containerd of our own in a host's namespace, with its own state and CNI directories."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coil.lab.cri import Cri
from coil.lab.errors import LabError
from coil.lab.host import Host, end, run
from coil.lab.image import oci_archive
from coil.lab.leftovers import end_group, end_programs, forget_results, unmount_below
from coil.lab.wait import until

IMAGE = "coil.invalid/busybox:1"
DEBIAN_PLUGINS = Path("/usr/lib/cni")
_REMOVALS = 10  # at a time: an end with pods whose DEL hangs takes as long as one of them

# restrict_oom_score_adj: runc fails where the machine withholds CAP_SYS_RESOURCE, as CI does.
# Root: else runc keeps the state of containers in a place that all containerds share.
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
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{dir}/runc"
"""


class Containerd:
    """containerd in a host; its files, also its log, stay in ``directory`` when it has ended.

    Its pods run in a control group named after the host, so that all of them can be found.
    """

    def __init__(self, host: Host, directory: Path, *plugins: Path) -> None:
        self.host = host
        self.directory = directory
        self.bin_dir = directory / "bin"
        """Its CNI plugins: Debian's, and beside them ``plugins``."""
        self.conf_dir = directory / "net.d"
        self.log = directory / "containerd.log"
        self.cri = Cri(directory / "containerd.sock", cgroup_parent=f"/{host.name}")
        self._plugins = plugins
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; also where another one has left its files.

        Raises LabError with its log.
        """
        self.conf_dir.mkdir(parents=True, exist_ok=True)
        link_plugins(self.bin_dir, *self._plugins)
        config = self.directory / "config.toml"
        config.write_text(_CONFIG.format(dir=self.directory, image=IMAGE))
        with self.log.open("ab") as log:
            self._process = self.host.start("containerd", "--config", config, log=log)
        until(self._answers, "containerd answers", 30)
        self._import_image()

    def configure(self, name: str, content: str) -> None:
        """Put a CNI configuration in place in one step, and wait until it is in force.

        ``name`` must come first in the directory: the runtime takes no other.
        """
        temporary = self.conf_dir / f".{name}"
        temporary.write_text(content)
        temporary.rename(self.conf_dir / name)
        wanted = json.loads(content)
        until(lambda: wanted in self.cri.networks(), "containerd takes the configuration", 20)

    def power_off(self) -> None:
        """What a power cut does: all processes, mounts and /run are gone, the disk stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._clear_machine()
        shutil.rmtree(self.directory / "state", ignore_errors=True)

    def stop(self) -> None:
        """Remove the sandboxes, end it, and leave nothing on the machine; harmless if repeated."""
        process, self._process = self._process, None
        with contextlib.ExitStack() as stack:
            stack.callback(self.cri.close)
            stack.callback(self._clear_machine)
            if process is not None:
                stack.callback(end, process)
                stack.callback(self._remove_sandboxes)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"containerd ended at once: {self.log.read_text()[-2000:]}")
        return self.cri.is_up()

    def _import_image(self) -> None:
        archive = self.directory / "image.tar"
        archive.write_bytes(oci_archive(IMAGE))
        socket = self.directory / "containerd.sock"
        run(["ctr", "-a", str(socket), "-n", "k8s.io", "images", "import", str(archive)])

    def _remove_sandboxes(self) -> None:
        """As far as it can be done: what fails is cleared away by force afterwards."""
        with contextlib.suppress(LabError), ThreadPoolExecutor(_REMOVALS) as threads:
            list(threads.map(self._try_remove, self.cri.pod_ids()))

    def _try_remove(self, pod_id: str) -> None:
        with contextlib.suppress(LabError):
            self.cri.remove_pod(pod_id)

    def _clear_machine(self) -> None:
        """Nothing is found where the sandboxes could be removed."""
        end_programs("containerd-shim", self.directory)
        end_group(self.host.name)
        self._unlink_shim_sockets()
        sandboxes = self.directory / "root/io.containerd.grpc.v1.cri/sandboxes"
        forget_results(path.name for path in sandboxes.glob("*"))
        unmount_below(self.directory)

    def _unlink_shim_sockets(self) -> None:
        """Shims listen in a directory that no setting moves; their bundles say where."""
        for note in self.directory.glob("state/io.containerd.runtime.v2.task/k8s.io/*/address"):
            Path(note.read_text().removeprefix("unix://")).unlink(missing_ok=True)


def link_plugins(bin_dir: Path, *plugins: Path) -> None:
    """Make a CNI plugin directory of Debian's plugins and these; existing links are kept."""
    bin_dir.mkdir(parents=True, exist_ok=True)
    for plugin in _all_plugins(plugins):
        with contextlib.suppress(FileExistsError):
            (bin_dir / plugin.name).symlink_to(plugin)


def _all_plugins(more: Iterable[Path]) -> Iterator[Path]:
    yield from more  # first: ours would win against one of the same name
    yield from DEBIAN_PLUGINS.iterdir()


@contextlib.contextmanager
def containerd(host: Host, directory: Path, *plugins: Path) -> Iterator[Containerd]:
    """Run containerd in ``host``; ``plugins`` are put beside Debian's CNI plugins.

    At the end its sandboxes are removed, and it and all that it started are gone, also when it
    did not come up, was killed meanwhile, or its plugins fail.
    """
    made = Containerd(host, directory, *plugins)
    try:
        made.start()
        yield made
    finally:
        made.stop()
