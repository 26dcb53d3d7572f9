"""A simulated node: its blocks, its pods, and when it claims and gives back.

The policy, the allocators and the claim code are those of coild; what coild does for journal and
kernel is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from coil.domain.allocation import BlockAllocator
from coil.domain.block import Block, BlockClaim
from coil.domain.errors import OutOfBlocks
from coil.domain.level import expected, missing_blocks, stay_seconds, surplus_blocks
from coil.domain.names import NodeName, RackName
from coil.domain.pool import Pool
from coil.store.contract import BlockStore


@dataclass(frozen=True, slots=True, eq=False)
class HeldBlock:
    """A block of a node."""

    block: Block
    claim: BlockClaim
    allocator: BlockAllocator


@dataclass(frozen=True, slots=True, eq=False)
class Pod:
    """An address in use."""

    node: SimulatedNode
    held: HeldBlock
    offset: int

    def remove(self, now: float) -> None:
        """The pod has gone; its address cools."""
        self.held.allocator.free(self.offset, now)
        self.node.pods -= 1


class SimulatedNode:
    """See module. ``now`` is simulated time in seconds."""

    def __init__(self, name: NodeName, rack: RackName, pool: Pool, store: BlockStore) -> None:
        self.name = name
        self.rack = rack
        self.blocks: list[HeldBlock] = []
        """In the order in which they were claimed."""
        self.pods = 0
        self.waiting = 0
        """Pods that wait for a block."""
        self.claims = 0
        self._pool = pool
        self._store = store

    def add_pod(self, now: float) -> Pod | None:
        """Give a pod an address; None when this node has none free."""
        for held in self.blocks:
            offset = held.allocator.allocate(now, self._pool.cool_down)
            if offset is not None:
                self.pods += 1
                return Pod(self, held, offset)
        return None

    def missing(self, now: float) -> int:
        """Blocks to claim now."""
        more = self._expected(now)
        return missing_blocks(self._pool, free=self._free(now), waiting=self.waiting, expected=more)

    async def fetch(self, now: float) -> bool:
        """Claim what is missing; False when the pool is full."""
        missing = self.missing(now)
        if not missing:
            return True
        self.claims += 1
        try:
            claims = await self._store.claim_blocks(self.name, self._pool.name, missing, self.rack)
        except OutOfBlocks:
            return False
        for claim in claims:
            block = self._pool.block(claim.id.index)
            self.blocks.append(HeldBlock(block, claim, BlockAllocator(block.size)))
        return True

    async def give_back(self, now: float) -> None:
        """Release what is too much, the newest first."""
        stay = stay_seconds(self._pool)
        idle = [held for held in self.blocks if held.allocator.is_idle(now, stay)]
        if not idle:
            return
        free, more = self._free(now), self._expected(now)
        count = surplus_blocks(self._pool, free=free, idle=len(idle), expected=more)
        surplus = idle[::-1][:count]
        if surplus:
            await self._store.release_blocks([held.claim for held in surplus])
            self.blocks = [held for held in self.blocks if held not in surplus]

    def _expected(self, now: float) -> int:
        allocators = [held.allocator for held in self.blocks]
        return expected(self._pool, allocators, now=now, waiting=self.waiting)

    def _free(self, now: float) -> int:
        cool_down = self._pool.cool_down
        return sum(held.allocator.free_count(now, cool_down) for held in self.blocks)
