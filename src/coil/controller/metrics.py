"""coil-controller's metrics, in Prometheus' text format: docs/cmd-coil-controller.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from coil.controller.leader import Leadership
from coil.controller.passes import Passes
from coil.domain.audit import FindingKind
from coil.process.problems import Problems

_KINDS = ("store", "leader", "grace", "node", *(kind.value for kind in FindingKind))


class Metrics(Collector):
    """Reads what the last pass saw; a replica that does not lead shows no pools and no nodes."""

    def __init__(self, leadership: Leadership, passes: Passes, problems: Problems) -> None:
        self._leadership = leadership
        self._passes = passes
        self._problems = problems
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics now."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        leads = self._leadership.is_leading
        yield GaugeMetricFamily("coil_controller_leader", "Whether this replica leads", leads)
        problems = GaugeMetricFamily(
            "coil_controller_problems", "What is wrong by kind", labels=["kind"]
        )
        for kind in _KINDS:
            problems.add_metric([kind], self._problems.count(kind))
        yield problems
        for noun, count in (
            ("nodes", self._passes.collected_nodes),
            ("blocks", self._passes.collected_blocks),
        ):
            name, text = f"coil_controller_collected_{noun}", f"How many {noun} were taken back"
            yield CounterMetricFamily(name, text, value=count)
        yield from self._survey()

    def _survey(self) -> Iterator[Metric]:
        seen = self._passes.seen
        if seen is None:
            return
        most = GaugeMetricFamily("coil_controller_max_blocks", "Blocks a pool has", labels=["pool"])
        allocated = GaugeMetricFamily(
            "coil_controller_allocated_blocks", "Blocks of a pool that nodes own", labels=["pool"]
        )
        owned = Counter(claim.id.pool for claim in seen.survey.claims)
        for pool in seen.survey.pools:
            most.add_metric([pool.name], pool.block_count)
            allocated.add_metric([pool.name], owned[pool.name])
        nodes = GaugeMetricFamily("coil_controller_nodes", "Nodes by state", labels=["state"])
        alive = sum(found.alive for found in seen.survey.nodes)
        overdue = len(seen.overdue)
        for state, count in (
            ("alive", alive),
            ("silent", len(seen.survey.nodes) - alive - overdue),
            ("overdue", overdue),
        ):
            nodes.add_metric([state], count)
        yield from (most, allocated, nodes)
