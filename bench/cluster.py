"""What nodes cost one etcd: first claims, thousands of nodes, pods that come and go.

etcd runs in a host of its own, its data on tmpfs: what is measured is not the disk.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.rig import LAUNCHER, ROOT, Rig

from coil.lab.etcd import EtcdMember
from coil.lab.host import Host, cable, host
from coil.lab.node import PLUGIN, Node
from coil.lab.wait import until

ETCD = "192.0.2.100"
POOL = "10.64.0.0/12"


@dataclass
class Cluster:
    """A host with etcd, and whoever is cabled to it."""

    host: Host
    member: EtcdMember
    directory: Path

    @property
    def url(self) -> str:
        return f"etcd://{self.member.endpoint}/bench?timeout=30"

    def work(self, *words: object) -> dict:
        """Run a work of bench.claims beside etcd."""
        argv = [sys.executable, "-m", "bench.claims", *map(str, words[:1]), self.url,
                *map(str, words[1:])]  # fmt: skip
        return json.loads(self.host.run(*argv, seconds=300, cwd=ROOT).stdout)

    def node(self, at: Host, name: str) -> Node:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return Node(at, directory, name=name, store=self.url)


@contextlib.contextmanager
def cluster():
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(host("bench-etcd"))
        made.run("ip", "addr", "add", f"{ETCD}/32", "dev", "lo")
        made.run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "wan1")
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm"))
        member = EtcdMember("m0", ETCD, Path(name) / "etcd", made)
        stack.callback(member.stop)
        member.start([member])
        member.wait_ready()
        yield Cluster(made, member, Path(name))


def first_claims(rig: Rig, rounds: int, count: int = 50) -> None:
    """A pool is made, and fifty running daemons claim their first block of it."""
    with cluster() as made:
        pairs = [made.work("clients", count) for _ in range(rounds)]
    claims = statistics.median(pair["claims"] for pair in pairs)
    ratio = statistics.median(pair["claims"] / pair["puts"] for pair in pairs)
    rig.add("50 clients, one process: first blocks", claims, "s", 0.2)
    rig.add("the same / 50 single puts", ratio, "", note="as a floor: a put that nobody precedes")
    with cluster() as made, contextlib.ExitStack() as stack:
        for number in range(count):
            at = stack.enter_context(host("bench-node"))
            cable(at, made.host, f"172.31.{number}.0/30", ifname=f"up{number}")
            at.run("ip", "route", "add", "default", "via", f"172.31.{number}.2")
            node = made.node(at, f"n{number}")
            stack.callback(node.stop)
            node.start("--log-level=warning")
        took = made.work("daemons", count)["seconds"]
        rig.add("50 daemons: first blocks", took, "s", 0.2, note="from the making of the pool on")


def many_nodes(rig: Rig, _rounds: int, count: int = 5000) -> None:
    """The claim code of 5,000 nodes in 125 racks on a real etcd."""
    with cluster() as made:
        before = made.member.calls("Txn")
        found = made.work("nodes", count)
        transactions = made.member.calls("Txn") - before
    rig.add("5,000 nodes: first blocks", found["seconds"], "s", 60)
    conflicts = 100 * found["conflicts"] / (count + found["conflicts"])
    rig.add("5,000 nodes: conflicts", conflicts, "%", 5)
    rig.add("5,000 nodes: transactions per block", transactions / count, "")


@dataclass(frozen=True)
class Churn:
    """Waves of pods on one node; each has gone, and its blocks are given back, before the next."""

    name: str
    pods: int = 100
    waves: int = 10
    pace: float = 0
    """Pods a second; 0: all at once."""
    block_bits: int = 5


CHURN = Churn("")
"""What the targets are for."""
OTHER_CHURN = (
    Churn("5 pods a second", waves=2, pace=5),
    Churn("250 pods", pods=250, waves=2),
    Churn("30 pods", pods=30, waves=3),
    Churn("blocks of 8", waves=3, block_bits=3),
)


@dataclass(frozen=True)
class Cost:
    """What a churn run took: all transactions of etcd from before coild's start on."""

    transactions: int
    mvcc: float
    pods: int
    claimed: int
    released: int

    @property
    def per_block(self) -> float:
        """Those of giving back, and of the node's record, included."""
        return self.transactions / self.claimed


def churn(rig: Rig, _rounds: int) -> None:
    """Pods that come and go on one node."""
    cost = _cost(rig, CHURN)
    rig.add("etcd transactions per pod", cost.transactions / cost.pods, "", 0.07,
            note=f"{cost.transactions} for {cost.pods} pods")  # fmt: skip
    rig.add("etcd transactions per block", cost.per_block, "", 1,
            note=f"{cost.transactions} for {cost.claimed} claimed and given back")  # fmt: skip
    rig.add("etcd_mvcc_txn_total per pod", cost.mvcc / cost.pods, "",
            note="counts two comparisons as one, too")  # fmt: skip
    for shape in OTHER_CHURN:
        cost = _cost(rig, shape)
        rig.add(f"the same per block, {shape.name}", cost.per_block, "",
                note=f"{cost.transactions} for {cost.pods} pods, {cost.claimed} claimed, "
                     f"{cost.released} given back")  # fmt: skip


def _cost(rig: Rig, shape: Churn) -> Cost:
    pods = rig.need_pods(shape.pods)
    with cluster() as made:
        node = made.node(made.host, "n0")
        bits = str(shape.block_bits)
        node.ctl("pool", "create", "default", POOL, "--cool-down", "1s", "--block-bits", bits)
        try:
            before = made.member.counters(), made.member.calls("Txn")
            node.start()
            until(lambda: _blocks(node) == 1, "coild has a block")
            for wave in range(shape.waves):
                _come_and_go(made, node, pods, wave, shape.pace)
            after, calls = made.member.counters(), made.member.calls("Txn") - before[1]
            log = node.log.read_text()
        finally:
            node.stop()
    mvcc = after["etcd_mvcc_txn_total"] - before[0]["etcd_mvcc_txn_total"]
    claimed, released = log.count("block acquired"), log.count("block released")
    return Cost(calls, mvcc, shape.waves * shape.pods, claimed, released)


def _come_and_go(made: Cluster, node: Node, pods: list[Host], wave: int, pace: float) -> None:
    conf = {"cniVersion": "1.0.0", "name": "n", "type": "coil", "socket": str(node.socket)}
    netconf = made.directory / "netconf.json"
    netconf.write_text(json.dumps(conf))
    jobs = [f"w{wave}-{number} eth0 {pod.path}\n" for number, pod in enumerate(pods)]

    def start(command: str, some: list[str]) -> None:
        lines = "".join(f"{command} {job}" for job in some)
        made.host.run(LAUNCHER, "par", PLUGIN, netconf, input=lines, seconds=120)

    began = time.monotonic()
    for number, job in enumerate(jobs if pace else ()):
        time.sleep(max(0, began + number / pace - time.monotonic()))
        start("ADD", [job])
    if not pace:
        start("ADD", jobs)
    start("DEL", jobs)
    until(lambda: _blocks(node) <= 1, "blocks are given back", 60)


def independence(rig: Rig, _rounds: int, few: int = 10, many: int = 1000) -> None:
    """What a node costs beside few and beside many others: watches of etcd, memory of coild."""
    with cluster() as made:
        made.node(made.host, "n0").ctl("pool", "create", "default", "10.0.0.0/12")
        seen = []
        for count in (few, many - few):
            made.work("others", count)
            node = made.node(made.host, "n0")
            idle = _watchers(made.member)
            try:
                node.start("--log-level=warning")
                until(lambda node=node: _blocks(node) == 1, "coild has a block")
                watchers = until(lambda idle=idle: _watchers(made.member) - idle >= 2
                                 and _watchers(made.member) - idle, "coild watches")  # fmt: skip
                seen.append((watchers, _rss(node)))
            finally:
                node.stop()
            until(lambda idle=idle: _watchers(made.member) == idle, "watches end")
    note = f"{seen[0]} beside {few} others, {seen[1]} beside {many}: watches, KB"
    rig.add("watches of a node, 1,000 others / 10", seen[1][0] / seen[0][0], "", 1, note=note)
    rig.add("RSS of coild, 1,000 others / 10", seen[1][1] / seen[0][1], "", 1.05)


def _blocks(node: Node) -> int:
    return len(node.ask("/blocks"))


def _watchers(member: EtcdMember) -> int:
    return int(member.counters()["etcd_debugging_mvcc_watcher_total"])


def _rss(node: Node) -> int:
    pid = node._process.pid  # noqa: SLF001
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
