"""The life of this node's blocks: claimed, adopted, exported, fenced, given back.

Order is everything: a block is exported only after its claim is confirmed and journaled, and
withdrawn before it is released. Each step can be killed; ``Ownership.sync`` continues it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from coil.daemon.inventory import Inventory, OwnedBlock
from coil.daemon.rack import Rack
from coil.daemon.steps import (
    CLAIM_CONFIRMED,
    CLAIM_EXPORTED,
    CLAIM_JOURNALED,
    RELEASE_DONE,
    RELEASE_MARKED,
    RELEASE_WITHDRAWN,
    StepHook,
)
from coil.daemon.workers import Workers
from coil.domain.block import BlockClaim, BlockId
from coil.domain.errors import InDoubt, NodeNameTaken
from coil.domain.names import NodeName, PoolName
from coil.journal.journal import Journal
from coil.nodenet.messages import Network
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.plan import Tables
from coil.nodenet.routes import RouteChanges, sync_blocks
from coil.nodenet.sysctl import ensure_forwarding, ip_versions
from coil.store.contract import BlockStore
from coil.store.errors import StoreUnavailable

_log = structlog.get_logger()


class BlockKeeper:
    """Moves blocks between store, journal, inventory and kernel."""

    def __init__(
        self,
        *,
        node: NodeName,
        rack: Rack,
        store: BlockStore,
        journal: Journal,
        inventory: Inventory,
        workers: Workers,
        tables: Tables,
        step: StepHook,
    ) -> None:
        self._node = node
        self._rack = rack
        self._store = store
        self._journal = journal
        self._inventory = inventory
        self._workers = workers
        self._tables = tables
        self._step = step
        self.doubts = 0
        """How often it became unsure whether the blocks are ours (coil.daemon.vigil)."""
        self._settled = 0
        self.cut_off = False
        """Set while this node reaches nobody (coil.daemon.isolation): nothing is exported, in
        doubt or not."""
        self.name_taken = ""
        """Why this node's name is not ours, empty while it is: nothing is claimed in another's."""
        self._unsettled = False
        """Whether a claim may have happened that nobody knows of."""
        self._changing = asyncio.Lock()
        """Claims, releases and syncs with the store are one at a time: else a sync could see a
        claim that this process is just making as one nobody knows. No ADD waits for it while
        the node has a free address."""
        self._syncing = asyncio.Lock()
        """Syncs of routes are one at a time, whatever thread does them: one that began before a
        release and ended after it would announce the block again. Held for kernel steps only."""

    @property
    def in_doubt(self) -> bool:
        """Whether it is unsure that the blocks are ours.

        Meanwhile no route is made or removed, unless the node is cut off.
        """
        return self.doubts != self._settled

    def doubt(self) -> None:
        """From now on in doubt; no answer that the store gave before settles it.

        May be called by a signal handler, between any two steps of everything here.
        """
        self.doubts += 1

    def announces(self, owned: OwnedBlock) -> bool:
        """Whether the routing daemon has this block's routes to tell others of."""
        return owned.exported and not owned.releasing and not self.cut_off

    def settle(self, doubts: int) -> None:
        """Whatever was in doubt when ``doubts`` was read is sure now."""
        self._settled = doubts

    async def claim(self, pool: PoolName, count: int) -> None:
        """Claim up to ``count`` blocks and make them usable.

        Raises InDoubt, NodeNameTaken, and what the store raises.

        After a claim of unknown outcome the next call only settles that one; call again for more.
        """
        rack = await self._rack.get_for_claim()
        async with self._changing:
            if self.name_taken:
                raise NodeNameTaken(self.name_taken, node=self._node)
            self._check_doubt()  # what is claimed now could not be exported, nor used
            if self._unsettled:
                await self._equalise(past_known=True)
                return
            try:
                claims = await self._store.claim_blocks(self._node, pool, count, rack)
            except StoreUnavailable:
                self._unsettled = True
                raise
            self._step(CLAIM_CONFIRMED)
            self._unsettled = True
            for claim in claims:
                self._take_in(claim, known=True)
            self._unsettled = False
            await self.sync_routes()

    def _check_doubt(self) -> None:
        """Raise InDoubt where no route would be made or removed."""
        if self.in_doubt and not self.cut_off:
            raise InDoubt("the store has to be asked first whose this node's blocks are; try again")

    def _take_in(self, claim: BlockClaim, *, known: bool) -> None:
        owned = self._inventory.add_block(claim, {}, known=known)
        freed = owned.allocator.freed
        try:
            self._journal.put_block(claim, freed)
        except BaseException:
            self._inventory.drop_block(claim.id)
            raise
        self._step(CLAIM_JOURNALED)
        _log.info("block acquired", block=str(claim.id), networks=str(owned.block), known=known)

    async def release(self, wanted: Sequence[OwnedBlock]) -> None:
        """Give idle blocks back: mark, withdraw, release, forget. Continues begun releases.

        Raises what the store raises, InDoubt.
        """
        async with self._changing:
            if not all(owned.releasing for owned in wanted):
                # While the store is away a block could not be given back, only be of no use.
                await self._store.list_node_blocks(self._node)
            going = [owned for owned in wanted if self._may_go(owned)]
            if not going:
                return
            for owned in going:
                owned.releasing = True
            ids = [owned.block.id for owned in going]
            self._journal.mark_releasing(ids)
            self._step(RELEASE_MARKED)
            await self.sync_routes()
            self._check_doubt()  # which came meanwhile: nothing was withdrawn
            self._step(RELEASE_WITHDRAWN)
            released = await self._store.release_blocks([owned.claim for owned in going])
            self._step(RELEASE_DONE)
            for owned in going:
                self._forget(owned.block.id)
                if owned.claim in released:
                    _log.info("block released", block=str(owned.block.id))
                else:
                    name = str(owned.block.id)
                    _log.warning("block was not ours when it was released", block=name)

    def _may_go(self, owned: OwnedBlock) -> bool:
        """Looked at again: while one waited an address may have come and gone, and rests now."""
        if self._inventory.blocks.get(owned.block.id) is not owned:
            return False
        return owned.releasing or self._inventory.is_idle(owned)

    async def has_exactly(self, claims: Iterable[BlockClaim]) -> bool:
        """Whether these are the claims of this node's blocks, when no change is under way.

        What this process has just changed comes back by the watch before it is taken in.
        """
        async with self._changing:
            known = {(o.claim.id, o.claim.revision) for o in self._inventory.blocks.values()}
        return {(claim.id, claim.revision) for claim in claims} == known

    async def sync(self, *, restore: bool, past_known: bool) -> None:
        """Make this node's blocks what the store says they are. Idempotent.

        Unknown ones are adopted, lost ones fenced. ``restore``: the store is new and lost its
        memory (an embedded one, rebuilt): ask for the blocks back before anything is fenced.
        ``past_known=False``: the journal is new, so addresses of adopted blocks cool first.
        Raises StoreError and changes nothing when the store cannot be asked.
        """
        async with self._changing:
            if restore:
                await self._restore()
            await self._equalise(past_known=past_known)

    async def _equalise(self, *, past_known: bool) -> None:
        doubts = self.doubts
        claims = await self._store.list_node_blocks(self._node)
        self._unsettled = False
        theirs = {claim.id: claim for claim in claims}
        await self._fence([b for b in self._inventory.blocks if b not in theirs], doubts)
        for claim in claims:
            self._adopt(claim, past_known=past_known)
        self.settle(doubts)
        await self.sync_routes()

    async def disown(self) -> None:
        """Fence every block: somebody else has this node's name, and with it its blocks."""
        async with self._changing:
            await self._fence(list(self._inventory.blocks), self.doubts)

    async def _restore(self) -> None:
        wanted: dict[PoolName, list[int]] = {}
        for block_id in self._inventory.blocks:
            if block_id.pool in self._inventory.conflicts:  # what it was is no more
                continue
            wanted.setdefault(block_id.pool, []).append(block_id.index)
        for pool, indexes in wanted.items():
            claims = await self._store.reclaim_blocks(self._node, pool, sorted(indexes))
            _log.warning("blocks put back into the store", pool=pool, blocks=len(claims))

    def _adopt(self, claim: BlockClaim, *, past_known: bool) -> None:
        """Take in what the store gives us and the journal does not know.

        Usually a claim that was confirmed just before a kill: nobody has had its addresses since
        they cooled. A claim with another revision, or with attachments of ours in it, has a past.
        """
        known = self._inventory.blocks.get(claim.id)
        if known is not None and known.claim.revision == claim.revision:
            return
        if claim.id.pool not in self._inventory.pools or claim.id.pool in self._inventory.conflicts:
            _log.error("block of an unknown pool", block=str(claim.id))
            return
        if known is not None:
            self._inventory.drop_block(claim.id)
        held = any(block_id == claim.id for block_id, _offset in self._inventory.holders)
        self._take_in(claim, known=past_known and known is None and not held)

    async def _fence(self, lost: Sequence[BlockId], doubts: int) -> None:
        """Stop giving from blocks that are not ours any more, and withdraw them before all else."""
        if not lost:
            return
        fenced = [self._inventory.blocks[block_id] for block_id in lost]
        # The journal first: a restart between the two must not announce a block again.
        for block_id in lost:
            self._forget(block_id)
        self.settle(doubts)
        await self.sync_routes()
        for owned in fenced:
            lives = owned.allocator.used_count
            say = _log.error if lives else _log.warning
            say("block is no longer ours: fenced", block=str(owned.block.id), live_addresses=lives)

    def _forget(self, block_id: BlockId) -> None:
        self._inventory.drop_block(block_id)
        self._journal.remove_block(block_id)

    async def sync_routes(self) -> RouteChanges:
        """Make block routes, and forwarding, what the inventory needs. Idempotent."""
        async with self._syncing:
            if self.in_doubt and not self.cut_off:
                return RouteChanges()
            live = [owned for owned in self._inventory.blocks.values() if not owned.releasing]
            networks, export = _networks(live), not self.cut_off
            changes = await self._workers.run(
                lambda netlink: _sync(netlink, networks, self._tables, export=export)
            )
        for owned in live:
            owned.exported = True
        if changes:
            _log.info("node routes changed", added=changes.added, removed=changes.removed)
            self._step(CLAIM_EXPORTED)
        return changes


def _sync(
    netlink: NetlinkSocket, networks: Sequence[Network], tables: Tables, *, export: bool
) -> RouteChanges:
    possible = ip_versions()
    held = [network for network in networks if network.version in possible]
    changes = sync_blocks(netlink, held=held, exported=held if export else (), tables=tables)
    changes.added.extend(ensure_forwarding({network.version for network in held}))
    return changes


def _networks(blocks: Sequence[OwnedBlock]) -> list[Network]:
    return [network for owned in blocks for network in owned.block.networks]
