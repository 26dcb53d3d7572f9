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

from coil.lab.host import NAMED, run
from coil.lab.wait import until

# Where libcni keeps results when the runtime names no other place: containerd 1.6 and podman 4
# name none.
_RESULTS = Path("/var/lib/cni/results")


def end_group(name: str) -> None:
    """Kill all that runs in the control group ``name`` and remove it from every hierarchy."""
    until(lambda: not _kill(_members(_groups(name))), f"processes of {name} end")
    until(lambda: sum(map(_remove, _groups(name))) == 0, f"control group {name} goes")


def groups_below(name: str) -> set[str]:
    """The names of the groups in the control group ``name``: a runtime's containers."""
    return {path.name for group in _groups(name) for path in _tree(group)} - {name}


def namespaces_of(name: str) -> set[Path]:
    """The named network namespaces in which processes of the control group ``name`` are."""
    inodes = {_inode(Path(f"/proc/{pid}/ns/net")) for pid in _members(_groups(name))} - {None}
    return {path for path in NAMED.iterdir() if _inode(path) in inodes}


def delete_namespaces(paths: Iterable[Path]) -> None:
    """Take away the names of network namespaces; those that are gone are left alone."""
    for path in paths:
        run(["ip", "netns", "delete", path.name], check=False)


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


def _tree(group: Path) -> list[Path]:
    """A group and those below it, parents first."""
    return [Path(path) for path, _folders, _files in os.walk(group)]


def _inode(path: Path) -> int | None:
    """None where it is gone: processes end, and others delete namespaces, while we look."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _members(groups: Iterable[Path]) -> set[int]:
    """The processes in these groups and in those below them."""
    found: set[int] = set()
    for group in groups:
        for path in _tree(group):
            with contextlib.suppress(OSError):  # groups go while we look
                found.update(map(int, (path / "cgroup.procs").read_text().split()))
    return found


def _kill(pids: Iterable[int]) -> bool:
    """Kill processes; whether there were any."""
    found = False
    for pid in pids:
        found = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _remove(group: Path) -> bool:
    """Remove a group and those below it; whether it is still there."""
    for path in reversed(_tree(group)):
        with contextlib.suppress(OSError):  # busy for a moment after its last process
            path.rmdir()
    return group.is_dir()


def _kill_programs(program: str, directory: Path) -> bool:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # processes end while we look
            words = path.read_bytes().decode(errors="replace")
            if program in words.split("\0")[0] and f"{directory}/" in words:
                found.append(int(path.parent.name))
    return _kill(found)
