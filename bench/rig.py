"""What all figures stand on: a host, pods, coild, the peers' configurations, the launcher."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from coil.lab.etcd import etcd_in
from coil.lab.host import Host, host, run
from coil.lab.node import PLUGIN, Node

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = ROOT / "build" / "bench-launch"
PEERS = Path("/usr/lib/cni")


@dataclass
class Times:
    """Microseconds of each start, and of all of them together."""

    each: list[float]
    wall: float

    @property
    def p50(self) -> float:
        return statistics.median(self.each)

    @property
    def p99(self) -> float:
        return sorted(self.each)[max(0, int(len(self.each) * 0.99) - 1)]


@dataclass
class Figure:
    """One line of the report."""

    name: str
    value: float
    unit: str
    target: float | None = None
    """At most this; None: for the record."""
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass
class Rig:
    """A host with coild, and bare pods."""

    host: Host
    directory: Path
    node: Node
    stack: contextlib.ExitStack
    pods: list[Host] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def need_pods(self, count: int) -> list[Host]:
        while len(self.pods) < count:
            self.pods.append(self.stack.enter_context(host("bench-pod")))
        return self.pods[:count]

    def add(self, name, value, unit, target=None, *, at_least=False, note=""):
        self.figures.append(Figure(name, value, unit, target, at_least, note))

    def netconf(self, name: str, conf: dict) -> Path:
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps({"cniVersion": "1.0.0", "name": name, **conf}))
        return path

    def coil(self, pool: str = "v4") -> tuple[Path, Path]:
        conf = {"type": "coil", "socket": str(self.node.socket), "pool": pool}
        return PLUGIN, self.netconf(f"coil-{pool}", conf)

    def peer(self, kind: str) -> tuple[Path, Path]:
        third = {"ptp": 1, "bridge": 2}[kind]
        ipam = {
            "type": "host-local",
            "dataDir": str(self.directory / f"{kind}-data"),
            "ranges": [[{"subnet": f"10.20{third}.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        more = {"isGateway": True, "bridge": "benchbr0"} if kind == "bridge" else {}
        return PEERS / kind, self.netconf(kind, {"type": kind, "ipam": ipam, **more})

    def launch(self, mode, plugin, command, pods, prefix="c", ifname="eth0") -> Times:
        """Run one command for each pod; every one must succeed."""
        executable, netconf = plugin
        jobs = "".join(f"{command} {prefix}{n} {ifname} {pod.path}\n" for n, pod in enumerate(pods))
        return self.start_jobs(mode, executable, netconf, jobs)

    def start_jobs(self, mode: str, executable: Path, netconf: Path | str, jobs: str) -> Times:
        """Hand jobs to the launcher; its own comment says what they are."""
        done = subprocess.run(
            self.host.inside(LAUNCHER, mode, executable, netconf),
            input=jobs, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        *lines, wall = done.stdout.splitlines()
        pairs = [line.split() for line in lines]
        failed = [status for _took, status in pairs if status != "0"]
        if failed:
            raise SystemExit(f"{executable.name}: {len(failed)} of {len(pairs)} failed")
        return Times([float(took) for took, _status in pairs], float(wall.split()[1]))


@contextlib.contextmanager
def rig(store: str):
    """A rig on tmpfs whose coild uses sqlite or etcd; everything is gone at the end."""
    LAUNCHER.parent.mkdir(exist_ok=True)
    run(["gcc", "-O2", "-Wall", "-o", str(LAUNCHER), str(ROOT / "bench" / "launch.c")])
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(host("bench-host"))
        made.run("ip", "addr", "add", "192.0.2.7/32", "dev", "lo")
        # A host has an uplink: without one, indexes of both ends of the first pair are equal.
        made.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
        for words in ("addr add 172.31.0.1/30 dev up0", "link set up0 up", "link set up1 up",
                      "route add default via 172.31.0.2"):  # fmt: skip
            made.run("ip", *words.split())
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm"))
        node = Node(made, Path(name))
        if store == "etcd":
            node.store = f"etcd://{stack.enter_context(etcd_in(made)).endpoint}/bench"
        node.ctl("pool", "create", "v4", "10.90.0.0/20", "--cool-down", "0s")
        node.ctl("pool", "create", "dual", "10.91.0.0/20,fd00:91::/116", "--cool-down", "0s")
        stack.callback(node.stop)
        node.start("--log-level=warning")
        yield Rig(made, Path(name), node, stack)


def ratio(pairs: list[tuple[float, float]]) -> float:
    """Median of the ratios, pair by pair: it holds when the machine's speed drifts."""
    return statistics.median(ours / theirs for ours, theirs in pairs)
