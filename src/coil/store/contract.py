"""What every store guarantees, at the level of the domain.

All of it can be had from single-key atomic operations (create if absent, compare and delete,
compare and swap, watch from a revision), so that SQLite, etcd and the Kubernetes API can each
serve. ``tests/store`` states the contract as tests that run against every store.

Guarantees
- *Create once*: of any number of concurrent claims of a block exactly one succeeds; the same for
  pools by name, and no two pools ever overlap.
- *Compare and delete*: a release takes effect only if the claim it names is still in force.
- *Durable*: what a call returned is seen by every later call of every process.
- *Unknown*: after StoreUnavailable a write may have happened, or may still: what was on its way to
  an etcd that hangs is done when that goes on. ``list_node_blocks`` tells what has happened, its
  watch what comes later.
- *Watches* are level-triggered: each item is a complete state at least as new as the change that
  woke it; states in between may be skipped; outages are bridged inside (the iterator does not end
  before ``close``), and what was missed meanwhile is in the next item. They raise nothing: to a
  watch a store that cannot be read is away.
- *Lists and watches* leave out a record that cannot be read, and tell it in the log. What needs
  that very record (one pool, a claim's pool, an overlap with all pools) raises StoreCorrupt.
- Every other method may raise StoreUnavailable, StoreCorrupt, and is safe to cancel (outcome
  unknown).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import Protocol

from coil.domain.block import BlockClaim, BlockId
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import NodeRecord, NodeStatus
from coil.domain.pool import Pool, Subnet
from coil.domain.survey import Survey


class Release(Enum):
    """What a release found."""

    RELEASED = "released"
    NOT_OWNER = "not owner"
    """The claim named was not in force any more; nothing was changed."""
    NOT_GONE = "not gone"
    """The node has shown itself meanwhile; nothing was changed."""


class PoolStore(Protocol):
    """Pools, for operators (write) and for every node (read, watch)."""

    async def create_pool(self, pool: Pool) -> None:
        """Create once. Raises PoolExists, SubnetOverlap (against all pools)."""

    async def add_subnet(self, name: PoolName, subnet: Subnet) -> Pool:
        """Append a subnet and return the pool. Raises PoolNotFound, InvalidPool, SubnetOverlap."""

    async def set_cordoned(self, name: PoolName, *, cordoned: bool) -> Pool:
        """Cordon or uncordon; idempotent. Raises PoolNotFound."""

    async def delete_pool(self, name: PoolName) -> None:
        """Delete a pool that has no claimed block, atomically against claims.

        Raises PoolNotFound, PoolInUse (its message counts the blocks and names nodes).
        """

    async def list_pools(self) -> Sequence[Pool]:
        """All pools, by name."""

    async def get_pool(self, name: PoolName) -> Pool:
        """One pool. Raises PoolNotFound."""

    def watch_pools(self) -> AsyncIterator[Sequence[Pool]]:
        """All pools now, and again after each change; never ends by itself."""


class BlockStore(Protocol):
    """Claims on blocks."""

    conflicts: int
    """Claims of this client that brought less than was free: others took it meanwhile."""

    async def claim_blocks(
        self, node: NodeName, pool: PoolName, count: int, rack: RackName | None = None
    ) -> list[BlockClaim]:
        """Claim up to ``count`` (>= 1) free blocks for ``node``; at least one.

        From the ranges of ``rack`` if it can be: they grow as needed, and where they cannot any
        free block will do. A store for one machine may give no ranges to racks.
        Raises OutOfBlocks when none is free, PoolCordoned, PoolNotFound.
        """

    async def reclaim_blocks(
        self, node: NodeName, pool: PoolName, indexes: Sequence[int]
    ) -> list[BlockClaim]:
        """Claim these very blocks where they are free or this node's already; return those had.

        For a node that holds live addresses of blocks the store lost. Works in a cordoned pool.
        Raises PoolNotFound, InvalidPool (no such index).
        """

    async def release_blocks(self, claims: Sequence[BlockClaim]) -> list[BlockClaim]:
        """Give back the blocks whose claims are still in force; return these claims."""

    async def list_node_blocks(self, node: NodeName) -> list[BlockClaim]:
        """The blocks of one node, by pool and index; reads nothing of other nodes."""

    def watch_node_blocks(self, node: NodeName) -> AsyncIterator[list[BlockClaim]]:
        """The blocks of one node now, and again after each change; never ends by itself."""

    def watch_claims(self) -> AsyncIterator[Mapping[BlockId, BlockClaim]]:
        """All claims of all nodes now, and again after each change; never ends by itself.

        Only what changes is read again.
        """

    async def list_pool_blocks(self, pool: PoolName) -> list[BlockClaim]:
        """All claims of a pool, by index. For operators only. Raises PoolNotFound."""

    async def list_ranges(self, pool: PoolName) -> dict[int, RackName]:
        """Whose each range of a pool is, by the range's first block. Raises PoolNotFound."""

    def watch_ranges(self) -> AsyncIterator[Mapping[BlockId, RackName]]:
        """Whose each range of each pool is, by its first block, now, and again after each change.

        Never ends by itself; only what changes is read again.
        """


class NodeStore(Protocol):
    """What nodes say of themselves. A store for one machine keeps no records, and names none."""

    async def hold_name(self, record: NodeRecord, seconds: float) -> None:
        """Say that this node lives, for so many seconds from now; repeat it well before.

        The first call of a process takes the name. Raises NodeNameTaken when somebody else has it
        (``coil.domain.node.may_hold``): then nothing that the store says of this name is about us;
        NodeNameInDoubt while that cannot be told: another boot of this machine had it just now.
        """

    async def list_nodes(self) -> list[NodeStatus]:
        """All nodes with a record, by name."""

    def watch_nodes(self) -> AsyncIterator[Mapping[NodeName, NodeRecord]]:
        """All nodes' records now, and again after each change; never ends by itself.

        Whether a node lives is not in it, and changes nothing of it.
        """

    async def find_node(self, name: NodeName) -> NodeStatus | None:
        """One node's record, None when there is none."""

    async def forget_node(self, name: NodeName) -> None:
        """Remove a node's record, and so free its name; its blocks stay. Idempotent."""


CONTROLLER = "controller"
"""The role of coil-controller."""


class LeaderStore(Protocol):
    """Which one of several processes acts for all of them."""

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """Be, or go on being, the leader of ``role``; whether it is so.

        ``holder`` names one process. Told True, it leads for ``seconds`` (2 or more) from the
        moment it called, by its own clock, and nobody else is told True before they are over or it
        has resigned. A call that raises changes nothing of that.
        """

    async def resign(self, role: str, holder: str) -> None:
        """Lead no longer, so that another may at once. Idempotent; of others it changes nothing."""

    async def find_leader(self, role: str) -> str | None:
        """Who leads, None when nobody does."""


class ControlStore(Protocol):
    """For the controller: everything at once, and taking back what a node left behind.

    Nothing here needs more than single-key operations: who cannot compare two keys in one step
    marks a claim as being taken, looks for the node again, and only then deletes it.
    """

    async def survey(self) -> Survey:
        """All that the store holds, as of one moment, what cannot be read included."""

    async def take_block(self, claim: BlockClaim, record: NodeRecord) -> Release:
        """Release a block of a node that is gone, unless the node has shown itself since.

        It has if it lives, or if its record is not ``record`` any more. A node that comes back
        either keeps the block or finds it gone when it first asks (after ``hold_name``). A store
        that keeps no records takes nothing: it knows of no node that is gone.
        """

    async def take_name(self, record: NodeRecord) -> bool:
        """Remove the record of a node that is gone, under the same conditions; whether it was."""

    async def mend_claim(self, claim: BlockClaim) -> bool:
        """Let the owner find ``claim`` if it is in force, and not else; whether that was wrong.

        For stores that keep a copy where the owner looks. Idempotent.
        """


class Store(PoolStore, BlockStore, NodeStore, LeaderStore, ControlStore, Protocol):
    """The whole contract."""

    async def identity(self) -> str:
        """A name made when the store was made. Another identity means another (or a new) store."""

    async def close(self) -> None:
        """Release connections, files and threads; idempotent. No other call may follow."""
