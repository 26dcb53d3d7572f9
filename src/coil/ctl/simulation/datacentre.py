"""The data centre that is simulated, through growth, churn and drain.

Time is simulated, so that cool-downs are real. Within one step of it all nodes that need blocks
claim at once: that is as much contention as there can be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from coil.ctl.simulation.fabric import count_routes
from coil.ctl.simulation.node import Pod, SimulatedNode
from coil.ctl.simulation.plan import Phase, Plan, Sample
from coil.domain.names import parse_node_name, parse_rack_name
from coil.process.together import all_of
from coil.store.etcd import EtcdStore
from coil.store.etcd.memory import MemoryClient, MemoryEtcd

STEP = 10
"""Seconds: shorter than a cool-down by far, long enough for 5,000 nodes in a minute or two."""
_GIVE_BACK_EVERY = 30
"""Seconds: idle blocks become so by cooling, and nothing waits for them."""
_SAMPLE_EVERY = 300
_LEAST_SAMPLES = 4
"""Of a phase, however short it is."""
_MOST_PODS = 110
"""Of a node: kubelet's own limit. Not kept when the plan has more on average."""


class DataCentre:
    """One simulation. The same plan has the same outcome."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._chance = random.Random(plan.seed)  # noqa: S311 - nobody is kept from guessing it
        self._now = 0.0
        etcd = MemoryEtcd(lambda: self._now)
        self._operator = EtcdStore(MemoryClient(etcd))
        self._stores = [EtcdStore(MemoryClient(etcd)) for _ in range(plan.nodes)]
        self.nodes = [
            SimulatedNode(
                parse_node_name(f"node-{number}"),
                parse_rack_name(f"rack-{number % plan.racks}"),
                plan.pool,
                store,
            )
            for number, store in enumerate(self._stores)
        ]
        self._pods: list[Pod] = []
        self._refused = 0
        self._most_pods = max(_MOST_PODS, 2 * plan.pods // plan.nodes)

    async def run(self, progress: Callable[[int, str], None]) -> list[Sample]:
        """Through all phases; ``progress`` is told how many seconds have passed, and the phase."""
        random.seed(self.plan.seed)  # the claim code draws from the common one
        await self._operator.create_pool(self.plan.pool)
        await self._fetch(self.nodes)
        samples: list[Sample] = []
        for phase in self.plan.phases:
            samples.append(await self._sample(phase.name))
            if phase.by_node:
                self._pods.sort(key=lambda pod: pod.node.name, reverse=True)
            steps = phase.seconds // STEP
            every = min(_SAMPLE_EVERY // STEP, steps // _LEAST_SAMPLES)
            added, removed = _spread(phase.added, steps), _spread(phase.removed, steps)
            for step in range(1, steps + 1):
                self._now += STEP
                await self._step(phase, next(added), next(removed))
                progress(STEP, phase.name)
                if step % every == 0:
                    samples.append(await self._sample(phase.name))
        return samples

    async def _step(self, phase: Phase, added: int, removed: int) -> None:
        for _ in range(min(removed, len(self._pods))):
            pod = self._pods.pop() if phase.by_node else self._pop_pod()
            pod.remove(self._now)
        touched = {node for _ in range(added) if (node := self._schedule())}
        await self._fetch(touched)
        for node in touched:
            while node.waiting:
                node.waiting -= 1
                self._add_pod(node)
        if not self._now % _GIVE_BACK_EVERY:
            for node in self.nodes:
                await node.give_back(self._now)

    def _pop_pod(self) -> Pod:
        """Any pod; the last takes its place."""
        position = self._chance.randrange(len(self._pods))
        pod, last = self._pods[position], self._pods.pop()
        if position < len(self._pods):
            self._pods[position] = last
        return pod

    def _schedule(self) -> SimulatedNode:
        """Put a pod on any node that may have one more; that node."""
        node = self._chance.choice(self.nodes)
        while node.pods + node.waiting >= self._most_pods:
            node = self._chance.choice(self.nodes)
        pod = node.add_pod(self._now)
        if pod:
            self._pods.append(pod)
        else:
            node.waiting += 1
        return node

    def _add_pod(self, node: SimulatedNode) -> None:
        pod = node.add_pod(self._now)
        if pod:
            self._pods.append(pod)
        else:
            self._refused += 1

    async def _fetch(self, nodes: set[SimulatedNode] | list[SimulatedNode]) -> None:
        """All that miss blocks claim at once, and again as long as that helps."""
        missing = [node for node in nodes if node.missing(self._now)]
        while missing:
            had = await all_of(node.fetch(self._now) for node in missing)
            missing = [
                node
                for node, helped in zip(missing, had, strict=True)
                if helped and node.missing(self._now)
            ]

    async def _sample(self, phase: str) -> Sample:
        pool = self.plan.pool
        owners = await self._operator.list_ranges(pool.name)
        blocks = sum(len(node.blocks) for node in self.nodes)
        return Sample(
            second=int(self._now),
            phase=phase,
            pods=len(self._pods),
            refused=self._refused,
            blocks=blocks,
            block_use=len(self._pods) / (blocks * pool.block_size) if blocks else 0.0,
            pool_use=blocks / pool.block_count,
            routes=count_routes(pool, owners, self.nodes),
            claims=sum(node.claims for node in self.nodes),
            conflicts=sum(store.conflicts for store in self._stores),
        )


def _spread(total: int, steps: int) -> Iterator[int]:
    """``total`` in ``steps`` parts that are as equal as can be."""
    for step in range(steps):
        yield total * (step + 1) // steps - total * step // steps
