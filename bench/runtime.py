"""Figure of whole sandboxes: twenty at once through containerd."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from bench.rig import PLUGIN, ROOT, Rig

from coil.lab.containerd import containerd
from coil.lab.cri import conflist
from coil.lab.host import run

_PODS = 20
_ROUNDS = 12
"""At least: medians of five rounds still differ by a tenth between runs."""


def sandboxes(rig: Rig, rounds: int) -> None:
    """Host network, coil, ptp and a plugin that does nothing, in turn."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.203.0.0/16"}]]}
    confs = {
        "host": None,
        "coil": conflist("coil", [{"type": "coil", "socket": str(rig.node.socket), "pool": "v4"}]),
        "ptp": conflist(
            "ptp", [{"type": "ptp", "ipam": {**ipam, "dataDir": f"{rig.directory}/cri"}}]
        ),
        "noop": conflist("noop", [{"type": "noop"}]),
    }
    walls: dict[str, list[float]] = {kind: [] for kind in confs}
    with containerd(rig.host, rig.directory / "containerd", PLUGIN) as runtime:
        source = str(ROOT / "bench" / "noop.c")
        run(["gcc", "-O2", "-static", "-o", str(runtime.bin_dir / "noop"), source])
        for number in range(max(rounds, _ROUNDS) + 1):
            for kind, conf in confs.items():
                if conf:
                    runtime.configure("10-bench.conflist", conf)
                took = _run(runtime, host_network=conf is None)
                if number:  # the first round warms up
                    walls[kind].append(took)
    middle = {kind: statistics.median(values) for kind, values in walls.items()}
    rig.add(
        "20 sandboxes at once", middle["coil"], "s", note=f"host network {middle['host']:.2f} s"
    )
    rig.add("20 sandboxes / no network", middle["coil"] / middle["host"], "", 1.2)
    floor = middle["noop"] / middle["host"]
    rig.add("20 sandboxes, a plugin that does nothing / no network", floor, "")
    rig.add("20 sandboxes, ptp / no network", middle["ptp"] / middle["host"], "")


def _run(runtime, *, host_network: bool) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(_PODS) as threads:
        pods = list(
            threads.map(
                lambda n: runtime.cri.run_pod(f"p{n}", host_network=host_network), range(_PODS)
            )
        )
        took = time.monotonic() - began
        list(threads.map(lambda pod: runtime.cri.remove_pod(pod.id), pods))
    return took
