"""coild's metrics, in Prometheus' text format. Names and labels: docs/cmd-coild.md."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from coil.daemon.inventory import Inventory
from coil.process.problems import Problems
from coil.store.contract import BlockStore

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_KINDS = (
    "kernel",
    "store",
    "journal",
    "attachment",
    "link",
    "pool",
    "node name",
    "rack",
    "socket",
)
"""Of what there can be problems."""


class Metrics:
    """Counters of requests, and gauges read off what is known when somebody asks."""

    def __init__(self, inventory: Inventory, problems: Problems, store: BlockStore) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "coil_cni_requests",
            "CNI requests by verb and result code (0: success)",
            ["command", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "coil_cni_request_seconds",
            "Time coild took for a CNI request",
            ["command"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(_StateCollector(inventory, problems, store))

    def count(self, command: str, code: int, seconds: float) -> None:
        """One CNI request was answered."""
        self._requests.labels(command, str(code)).inc()
        self._seconds.labels(command).observe(seconds)

    def text(self) -> bytes:
        """All metrics now."""
        return generate_latest(self._registry)


class _StateCollector(Collector):
    """Reads what is known elsewhere; nothing is counted twice."""

    def __init__(self, inventory: Inventory, problems: Problems, store: BlockStore) -> None:
        self._inventory = inventory
        self._problems = problems
        self._store = store

    def collect(self) -> Iterator[Metric]:
        blocks = GaugeMetricFamily("coil_blocks", "Blocks this node owns", labels=["pool"])
        addresses = GaugeMetricFamily(
            "coil_addresses", "Addresses of owned blocks by state", labels=["pool", "state"]
        )
        now = self._inventory.clock()
        for name, pool in self._inventory.pools.items():
            owned = [o for o in self._inventory.blocks.values() if o.block.pool == name]
            used = sum(o.allocator.used_count for o in owned)
            cooling = sum(len(o.allocator.cooling(now, pool.cool_down)) for o in owned)
            size = sum(o.block.size for o in owned)
            blocks.add_metric([name], len(owned))
            for state, count in (
                ("used", used),
                ("cooling", cooling),
                ("free", size - used - cooling),
            ):
                addresses.add_metric([name, state], count)
        problems = GaugeMetricFamily(
            "coil_problems", "What is wrong and could not be mended", labels=["kind"]
        )
        for kind in _KINDS:
            problems.add_metric([kind], self._problems.count(kind))
        attachments = GaugeMetricFamily("coil_attachments", "Attachments this node holds")
        attachments.add_metric([], len(self._inventory.attachments))
        conflicts = CounterMetricFamily(
            "coil_store_conflicts", "Claims that others were quicker than", labels=["op"]
        )
        conflicts.add_metric(["claim"], self._store.conflicts)
        return iter((blocks, addresses, attachments, problems, conflicts))
