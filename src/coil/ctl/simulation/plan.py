"""What is simulated, and what is seen of it; the simulation itself loads a whole store."""

from __future__ import annotations

from dataclasses import dataclass

from coil.ctl.simulation.fabric import Routes
from coil.domain.pool import Pool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated."""

    nodes: int
    racks: int
    pods: int
    churn: float
    """How often each pod is replaced in the phase of churn."""
    pool: Pool
    seed: int

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Pods come; pods come and go; three of four nodes are drained."""
        replaced = round(self.churn * self.pods)
        return (
            Phase("growth", 600, added=self.pods, removed=0),
            Phase("churn", 3600, added=replaced, removed=replaced),
            Phase("drain", 600, added=0, removed=self.pods - self.pods // 4, by_node=True),
        )

    @property
    def seconds(self) -> int:
        """Of all phases."""
        return sum(phase.seconds for phase in self.phases)


@dataclass(frozen=True, slots=True)
class Phase:
    """A time in which pods come and go evenly."""

    name: str
    seconds: int
    added: int
    removed: int
    by_node: bool = False
    """Pods go node by node, else anywhere."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How things are at a moment; counts of claims are since the beginning."""

    second: int
    phase: str
    pods: int
    refused: int
    """Pods that found neither an address nor a block, since the beginning."""
    blocks: int
    block_use: float
    """Part of the addresses of owned blocks that pods have."""
    pool_use: float
    """Part of the pool's blocks that are owned."""
    routes: Routes
    claims: int
    conflicts: int
    """Claims that brought less than was free, because others took it first."""
