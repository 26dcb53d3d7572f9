"""Figure of whole sandboxes: twenty at once through containerd."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from bench.rig import PLUGIN, Rig

from coil.lab.containerd import containerd
from coil.lab.cri import conflist
from coil.lab.wait import until

_PODS = 20


def sandboxes(rig: Rig, rounds: int) -> None:
    """Host network, coil and ptp in turn."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.203.0.0/16"}]]}
    confs = {
        "host": None,
        "coil": conflist("coil", [{"type": "coil", "socket": str(rig.node.socket), "pool": "v4"}]),
        "ptp": conflist(
            "ptp", [{"type": "ptp", "ipam": {**ipam, "dataDir": f"{rig.directory}/cri"}}]
        ),
    }
    walls: dict[str, list[float]] = {kind: [] for kind in confs}
    with containerd(rig.host, rig.directory / "containerd", PLUGIN) as runtime:
        runtime.configure("10-bench.conflist", confs["coil"])
        for number in range(rounds + 1):
            for kind, conf in confs.items():
                if conf:
                    runtime.configure("10-bench.conflist", conf)
                    _wait_for(runtime, kind)
                took = _run(runtime, host_network=conf is None)
                if number:  # the first round warms up
                    walls[kind].append(took)
    middle = {kind: statistics.median(values) for kind, values in walls.items()}
    rig.add(
        "20 sandboxes at once", middle["coil"], "s", note=f"host network {middle['host']:.2f} s"
    )
    rig.add("20 sandboxes / no network", middle["coil"] / middle["host"], "", 1.2)
    rig.add("20 sandboxes, ptp / no network", middle["ptp"] / middle["host"], "")


def _wait_for(runtime, kind: str) -> None:
    """containerd rescans on file events; a pod tells which network is in force."""
    prefix = {"coil": "10.90.", "ptp": "10.203."}[kind]

    def in_force() -> bool:
        pod = runtime.cri.run_pod("probe")
        runtime.cri.remove_pod(pod.id)
        return pod.addresses[0].startswith(prefix)

    until(in_force, f"containerd uses {kind}", 20)


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
