"""What container runtimes leave on a machine when they could not end in peace, and its removal.

A runtime that is killed takes nothing with it: shims, the pods' processes, mounts and control
groups stay, and so do files in places that no setting moves. All here is found by names that only
this lab's own runtimes use, never by guessing.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from coil.lab.host import run
from coil.lab.wait import until

# Where libcni keeps results when the runtime names no other place: containerd 1.6 and podman 4
# name none.
_RESULTS = Path("/var/lib/cni/results")


def end_group(name: str) -> None:
    """Kill all that runs in the control group ``name`` and remove it from every hierarchy."""
    until(lambda: sum(map(_kill, _groups(name))) == 0, f"processes of {name} end")
    until(lambda: sum(map(_remove, _groups(name))) == 0, f"control group {name} goes")


def end_programs(program: str, directory: Path) -> None:
    """Kill the processes of ``program`` that have ``directory`` on their command line."""
    until(lambda: not _kill_programs(program, directory), f"every {program} ends")


def forget_results(container_ids: Iterable[str]) -> None:
    """Remove what libcni remembers of these containers."""
    for container_id in container_ids:
        for path in _RESULTS.glob(f"*-{container_id}-*"):
            path.unlink(missing_ok=True)


def unmount_below(directory: Path) -> None:
    """Take away what is still mounted below ``directory``, the innermost first."""
    mounts = [words[4] for words in _mounts()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        run(["umount", "--lazy", mount], check=False)


def _mounts() -> list[list[str]]:
    """The words of /proc/self/mountinfo (proc(5)); the fifth is the mount point."""
    return [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _groups(name: str) -> list[Path]:
    """The group of that name in each hierarchy, version 1 or 2, where it exists."""
    mounted = [words for words in _mounts() if words[words.index("-") + 1].startswith("cgroup")]
    groups = [Path(words[4], name) for words in mounted]
    return [group for group in groups if group.is_dir()]


def _kill(group: Path) -> bool:
    """Kill what is in a group and in those below it; whether there was anything."""
    found = False
    for member_list in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):  # the group may go while we look
            for pid in member_list.read_text().split():
                found = True
                os.kill(int(pid), signal.SIGKILL)
    return found


def _remove(group: Path) -> bool:
    """Remove a group and those below it; whether it is still there."""
    below = [path for path in group.rglob("*") if path.is_dir()]
    for path in [*sorted(below, reverse=True), group]:
        with contextlib.suppress(OSError):  # busy for a moment after its last process
            path.rmdir()
    return group.is_dir()


def _kill_programs(program: str, directory: Path) -> bool:
    found = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # processes end while we look
            words = path.read_bytes().decode(errors="replace")
            if program in words.split("\0")[0] and str(directory) in words:
                found = True
                os.kill(int(path.parent.name), signal.SIGKILL)
    return found
