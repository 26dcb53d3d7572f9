"""What tests of runtimes share: the peer's network, and a look for what is left behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

from coil.lab.cri import conflist


def ptp(directory):
    """A network of Debian's ptp + host-local that keeps its state in ``directory``."""
    ipam = {
        "type": "host-local",
        "dataDir": f"{directory}/host-local",
        "ranges": [[{"subnet": "10.67.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return conflist("peer", [{"type": "ptp", "ipam": ipam}])


def traces(host, directory, container_ids):
    """What a runtime on ``host`` with its files in ``directory`` has left on this machine."""
    yield from below(directory)
    for hierarchy in ("", "*/"):  # version 2, version 1
        yield from Path("/sys/fs/cgroup").glob(f"{hierarchy}{host.name}")
    for container_id in container_ids:
        yield from Path("/var/lib/cni/results").glob(f"*{container_id}*")
        yield from Path("/run/containerd/runc").glob(f"*/{container_id}")
        yield from Path("/run/runc").glob(container_id)


def below(directory):
    """Mounts in a directory, and processes that know its name."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    yield from (mount for mount in mounts if f"{directory}/" in mount)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # processes end while we look
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            if f"{directory}/" in words:
                yield words


def pids_of(host):
    """Processes of the containers of a host's runtime."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"/{host.name}/" in (process / "cgroup").read_text():
                found.add(process.name)
    return found


def alive(pids):
    """Those of some processes that have not ended, zombies left aside."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path("/proc", pid, "cmdline").read_bytes():
                found.add(pid)
    return found
