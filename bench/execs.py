"""Figures of plugin executions: one after another, all at once, and the floor."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from bench.rig import PLUGIN, Rig, Times, ratio

BARE = Path(__file__).with_name("bare.py")


_MANY = 15
"""Rounds, where one differs from the next by a tenth and what is asked for is less."""


def sequential(rig: Rig, rounds: int) -> None:
    """ADD and DEL one after another, coil and ptp in turn."""
    pods = rig.need_pods(40)
    adds, duals, walls = [], [], {"add": [], "del": [], "ptp": [], "ptpdel": []}
    p99 = []
    for _round in range(max(rounds, _MANY)):
        ours = rig.launch("seq", rig.coil(), "ADD", pods)
        gone = rig.launch("paced", rig.coil(), "DEL", pods)
        dual = rig.launch("seq", rig.coil("dual"), "ADD", pods)
        rig.launch("par", rig.coil("dual"), "DEL", pods)
        theirs = rig.launch("seq", rig.peer("ptp"), "ADD", pods)
        their_del = rig.launch("paced", rig.peer("ptp"), "DEL", pods)
        adds.append((ours.p50, theirs.p50))
        duals.append((dual.p50, ours.p50))
        p99.append(ours.p99)
        walls["add"].append(ours.p50)
        walls["ptp"].append(theirs.p50)
        walls["del"].append(gone.p50)
        walls["ptpdel"].append(their_del.p50)
    middle = {name: statistics.median(values) / 1000 for name, values in walls.items()}
    rig.add("ADD exec p50", middle["add"], "ms", 2.0)
    rig.add("ADD exec p99", statistics.median(p99) / 1000, "ms", 5.0)
    rig.add("ADD exec p50 / ptp", ratio(adds), "", 0.25, note=f"ptp {middle['ptp']:.1f} ms")
    rig.add("ADD dual stack / IPv4", ratio(duals), "", 1.15)
    rig.add("DEL exec p50", middle["del"], "ms", note=f"ptp {middle['ptpdel']:.1f} ms")


def removal(rig: Rig, rounds: int) -> None:
    """DEL and a bare removal, in turn, pooled."""
    pods = rig.need_pods(40)
    ours, bare = [], []
    for _round in range(max(rounds, _MANY)):
        rig.launch("seq", rig.coil(), "ADD", pods)
        ours += rig.launch("paced", rig.coil(), "DEL", pods).each
        bare += bare_removals(rig, pods).each
    figure = statistics.median(ours) / statistics.median(bare)
    rig.add("DEL / bare removal", figure, "", 1.05, note=f"{len(ours)} of each")


def bare_removals(rig: Rig, pods) -> Times:
    """``ip link delete`` of devices like pods', started the same way.

    A program that starts and ends leaves work to RCU, which a removal waits for: in a process that
    removes one device after another it takes some milliseconds less.
    """
    names = rig.host.run(sys.executable, BARE, *(str(pod.path) for pod in pods)).stdout.split()
    jobs = "".join(f"remove x {name} -\n" for name in names)
    return rig.start_jobs("paced", Path("/usr/sbin/ip"), "/dev/null", jobs)


def together(rig: Rig, rounds: int) -> None:
    """A hundred at once."""
    pods = rig.need_pods(100)
    rig.launch("par", rig.coil(), "ADD", pods)  # has the blocks fetched, as on a node in use
    rig.launch("par", rig.coil(), "DEL", pods)
    adds, dels, pairs = [], [], []
    for _round in range(rounds):
        ours = rig.launch("par", rig.coil(), "ADD", pods)
        gone = rig.launch("par", rig.coil(), "DEL", pods)
        theirs = rig.launch("par", rig.peer("ptp"), "ADD", pods)
        rig.launch("par", rig.peer("ptp"), "DEL", pods)
        adds.append(ours.wall)
        dels.append(gone.wall)
        pairs.append((ours.wall, theirs.wall))
    rig.add("100 ADDs at once", statistics.median(adds) / 1e6, "s", 0.25)
    rig.add("100 ADDs at once / ptp", ratio(pairs), "", 0.45)
    rig.add("100 DELs at once", statistics.median(dels) / 1e6, "s", 0.2)


def start(rig: Rig, rounds: int) -> None:
    """The executable alone."""
    pods = rig.need_pods(40)
    plugin = (PLUGIN, rig.netconf("version", {"type": "coil"}))
    times = [rig.launch("seq", plugin, "VERSION", pods).p50 for _round in range(rounds)]
    rig.add("plugin start", statistics.median(times) / 1000, "ms", 0.5)
