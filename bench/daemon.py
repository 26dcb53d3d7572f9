"""Figures of the daemon: memory, idle cost, restart, and what ten thousand pods leave."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from bench.pages import first_access, read_all
from bench.rig import Rig

from coil.lab.errors import LabError
from coil.lab.wait import until

IDLE_SECONDS = 60
"""Two periods of repair and of asking the store."""


def _pid(rig: Rig) -> int:
    return rig.node._process.pid  # noqa: SLF001


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise SystemExit(f"no {key} of process {pid}")


def _cpu_seconds(pid: int) -> float:
    """As the scheduler counts it: the ticks of /proc/PID/stat see short work often or never."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def _idle(pid: int, between: Callable[[int], None]) -> float:
    """Percent of a core that a process takes at rest; ``between`` is done to it every second."""
    before, began = _cpu_seconds(pid), time.monotonic()
    while time.monotonic() - began < IDLE_SECONDS:
        between(pid)
        time.sleep(1)  # this is what is measured: nothing
    return 100 * (_cpu_seconds(pid) - before) / (time.monotonic() - began)


def at_rest(rig: Rig, _rounds: int) -> None:
    """Memory and idle CPU with 110 pods: once as it is, once with pages that stay present."""
    pods = rig.need_pods(110)
    rig.launch("par", rig.coil("dual"), "ADD", pods)
    pid = _pid(rig)
    rig.add("RSS with 110 pods", _status(pid, "VmRSS") / 1024, "MB", 60)
    ours = bytearray(8 << 20)
    first_access(ours)
    rig.add("idle CPU", _idle(pid, lambda _pid: None), "%", 0.2)
    cold = first_access(ours) / first_access(ours)
    rig.add("idle CPU, its pages kept present", _idle(pid, read_all), "%", 0.2)
    rig.add("page unused for a minute / used", cold, "", note="of this machine; see docs/bench.md")
    rig.launch("par", rig.coil("dual"), "DEL", pods)


def restart(rig: Rig, _rounds: int) -> None:
    """Kill, start, ready, with 250 attachments."""
    pods = rig.need_pods(125)
    for ifname in ("eth0", "eth1"):
        rig.launch("par", rig.coil("dual"), "ADD", pods, ifname=ifname)
    rig.node.kill()
    began = time.monotonic()
    rig.node.launch(Path(os.sys.executable).with_name("coild"), "--log-level=warning")
    probe = ("curl", "-sf", "--unix-socket", rig.node.socket, "http://coil/ready")
    while rig.host.run(*probe, check=False).returncode:
        if time.monotonic() - began > 30:
            raise SystemExit("coild does not get ready")
    rig.add("restart with 250 attachments", time.monotonic() - began, "s", 1.0)
    for ifname in ("eth0", "eth1"):
        rig.launch("par", rig.coil("dual"), "DEL", pods, ifname=ifname)


def endurance(rig: Rig, _rounds: int, total: int = 10_000) -> None:
    """Ten thousand ADD and DEL: descriptors, threads and memory stay as they are."""
    pods = rig.need_pods(100)
    plugin, pid = rig.coil("dual"), _pid(rig)

    def batch(number: int) -> None:
        rig.launch("par", plugin, "ADD", pods, prefix=f"b{number}-")
        rig.launch("par", plugin, "DEL", pods, prefix=f"b{number}-")

    def files() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def sizes() -> tuple[int, int, int]:
        # A plugin ends when it has its answer; the last one's connection may be a moment older.
        with contextlib.suppress(LabError):
            until(lambda: files() <= at_first, "all callers' connections are closed", 2)
        return files(), _status(pid, "Threads"), _status(pid, "VmRSS")

    at_first = files()
    for number in range(10):
        batch(number)
    before = sizes()
    for number in range(10, total // 100):
        batch(number)
    after = sizes()
    rig.add("descriptors gained in 10,000", after[0] - before[0], "", 0)
    rig.add("threads gained in 10,000", after[1] - before[1], "", 0)
    growth = 100 * (after[2] - before[2]) / before[2]
    rig.add("memory gained in 10,000", growth, "%", 5, note=f"{after[2] // 1024} MB")
