"""What this node has: pools known, blocks owned, attachments held. The loop thread only.

A copy of the journal with the allocators beside it. No I/O, so every method is atomic on the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.domain.allocation import BlockAllocator
from coil.domain.attachment import Attachment, AttachmentKey
from coil.domain.block import Block, BlockClaim, BlockId
from coil.domain.errors import (
    AddressInUse,
    InDoubt,
    OutOfAddresses,
    PoolCordoned,
    PoolNotFound,
    PoolUnfit,
)
from coil.domain.level import expected, stay_seconds
from coil.domain.names import PoolName
from coil.domain.pool import Pool

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(slots=True)
class OwnedBlock:
    """A block whose claim was confirmed, and which of its addresses are used, free, cooling."""

    block: Block
    claim: BlockClaim
    allocator: BlockAllocator
    releasing: bool = False
    exported: bool = False
    """Whether its routes were made: no address is given before."""


@dataclass(slots=True)
class Inventory:
    """See module. ``now`` is CLOCK_BOOTTIME in seconds."""

    clock: Callable[[], float]
    pools_told: bool = False
    """Whether the store has ever said which pools there are; till then none is known not to be."""
    versions: frozenset[int] = frozenset({4, 6})
    """IP versions this host has: pools of others give nothing here."""
    pools: dict[PoolName, Pool] = field(default_factory=dict)
    conflicts: dict[PoolName, str] = field(default_factory=dict)
    """Why pools of the store give nothing here: see ``find_conflicts``."""
    past: tuple[Network, ...] = ()
    """What the kernel had of blocks that the journal did not know, when coild started."""
    past_since: float = 0.0
    """When that was seen."""
    blocks: dict[BlockId, OwnedBlock] = field(default_factory=dict)
    attachments: dict[AttachmentKey, Attachment] = field(default_factory=dict)
    holders: dict[tuple[BlockId, int], AttachmentKey] = field(default_factory=dict)
    """Who has each offset given out, also while an ADD is still on its way."""
    changes: int = 0
    """How often ``attachments`` changed."""

    def get_pool(self, name: PoolName) -> Pool:
        """Raises PoolNotFound, PoolUnfit, InDoubt."""
        pool = self.pools.get(name)
        if pool is None and name in self.conflicts:
            raise PoolUnfit(self.conflicts[name], pool=name)
        if pool is None and not self.pools_told:
            raise InDoubt(
                f"pool {name} is not known yet: the store has not been reached", pool=name
            )
        if pool is None:
            raise PoolNotFound(
                f"pool {name} does not exist; create it with: coilctl pool create {name} SUBNET",
                pool=name,
            )
        return pool

    def choose_pool(self, netconf_pool: PoolName | None, namespace: str) -> Pool:
        """Netconf's pool, else the one named like the pod's namespace, else ``default``."""
        if netconf_pool is not None:
            return self.get_pool(netconf_pool)
        named = self.pools.get(PoolName(namespace))
        return named if named is not None else self.get_pool(PoolName("default"))

    def is_fit(self, pool: Pool) -> bool:
        """Whether a pool may give addresses on this host."""
        return pool.name not in self.conflicts and self.versions.issuperset(pool.families)

    def check_fit(self, pool: Pool) -> None:
        """Raises PoolUnfit."""
        if pool.name in self.conflicts:
            raise PoolUnfit(self.conflicts[pool.name], pool=pool.name)
        if not self.is_fit(pool):
            raise PoolUnfit(
                f"pool {pool.name} has IPv6, which is switched off on this host: switch it on "
                "(kernel parameter ipv6.disable, sysctls net.ipv6.conf.*.disable_ipv6), or use a "
                "pool of IPv4 alone",
                pool=pool.name,
            )

    def unfit_pools(self) -> dict[PoolName, str]:
        """By name, why a pool gives nothing on this host."""
        found = dict(self.conflicts)
        for pool in self.pools.values():
            try:
                self.check_fit(pool)
            except PoolUnfit as exc:
                found[pool.name] = exc.message
        return found

    def remember(self, networks: Iterable[Network]) -> None:
        """Take in what the kernel has of this node's blocks: of unknown ones it is the past."""
        unknown = (net for net in networks if self.find_block(net.network_address) is None)
        self.past, self.past_since = tuple(unknown), self.clock()

    def _has_past(self, block: Block, cool_down: float) -> bool:
        """Whether pods may have had addresses of a block that is new here, and not long ago."""
        return self.clock() - self.past_since < cool_down and any(
            network.version == past.version and network.overlaps(past)
            for network in block.networks
            for past in self.past
        )

    def add_block(self, claim: BlockClaim, freed: dict[int, float], *, known: bool) -> OwnedBlock:
        """Take a confirmed claim in. ``known=False``: the past of its addresses is unknown."""
        pool = self.get_pool(claim.id.pool)
        block = pool.block(claim.id.index)
        used = [offset for held, offset in self.holders if held == claim.id]
        rest = {offset: at for offset, at in freed.items() if offset not in used}
        allocator = BlockAllocator(block.size, used=used, freed=rest)
        if not known or self._has_past(block, pool.cool_down):
            allocator.retire_fresh(self.clock())
        owned = OwnedBlock(block, claim, allocator)
        self.blocks[claim.id] = owned
        return owned

    def check_owned(self, owned: OwnedBlock, offset: int) -> None:
        """Raises InDoubt when a block was lost since an address was chosen in it."""
        if self.blocks.get(owned.block.id) is not owned:
            raise InDoubt(
                f"{owned.block.addresses(offset)[0]} is not this node's any more, block "
                f"{owned.block.id} was taken from it meanwhile; try again"
            )

    def drop_block(self, block_id: BlockId) -> None:
        """Forget a block; attachments in it stay what they are."""
        self.blocks.pop(block_id, None)

    def put_attachment(self, attachment: Attachment) -> None:
        """Take a journaled attachment in (at start) or replace one. Raises AddressInUse."""
        place = (attachment.block, attachment.offset)
        if self.holders.get(place, attachment.key) != attachment.key:
            raise AddressInUse(f"{attachment.addresses[0]} is held by {self.holders[place]}")
        self.holders[place] = attachment.key
        self.attachments[attachment.key] = attachment
        self.changes += 1
        if attachment.block in self.blocks:
            self.blocks[attachment.block].allocator.hold(attachment.offset)

    def allocate(self, pool: Pool, key: AttachmentKey) -> tuple[OwnedBlock, int]:
        """Choose an address for ``key``. Raises OutOfAddresses, PoolCordoned, PoolUnfit."""
        self.check_fit(pool)
        if pool.cordoned:
            raise PoolCordoned(
                f"pool {pool.name} is cordoned and gives no addresses; "
                f"allow it with: coilctl pool uncordon {pool.name}",
                pool=pool.name,
            )
        now = self.clock()
        for owned in self.usable_blocks(pool.name):
            offset = owned.allocator.allocate(now, pool.cool_down)
            if offset is not None:
                self.holders[owned.block.id, offset] = key
                return owned, offset
        raise OutOfAddresses(f"this node has no free address of pool {pool.name}", pool=pool.name)

    def release(self, block: BlockId, offset: int, *, cools: bool = True) -> None:
        """Give an address back after everything else of it is gone. Unknown ones are ignored."""
        key = self.holders.pop((block, offset), None)
        if key is None:
            return
        found = self.attachments.get(key)
        if found and (found.block, found.offset) == (block, offset):
            del self.attachments[key]
            self.changes += 1
        owned = self.blocks.get(block)
        if owned and offset in owned.allocator.used:
            if cools:
                owned.allocator.free(offset, self.clock())
            else:
                owned.allocator.cancel(offset)

    def usable_blocks(self, pool: PoolName) -> Iterator[OwnedBlock]:
        """Blocks addresses may be given from, in the order they were claimed."""
        for owned in self.blocks.values():
            if owned.block.pool == pool and owned.exported and not owned.releasing:
                yield owned

    def free_count(self, pool: Pool) -> int:
        """Addresses this node could give at once. Cooling ones don't count."""
        now = self.clock()
        return sum(
            owned.allocator.free_count(now, pool.cool_down)
            for owned in self.usable_blocks(pool.name)
        )

    def expected(self, pool: Pool, waiting: int = 0) -> int:
        """Addresses that a burst under way will want (``coil.domain.level``)."""
        allocators = [owned.allocator for owned in self.usable_blocks(pool.name)]
        return expected(pool, allocators, now=self.clock(), waiting=waiting)

    def idle_blocks(self, pool: Pool) -> list[OwnedBlock]:
        """Usable blocks that pods have left some time ago, newest last."""
        now, stay = self.clock(), stay_seconds(pool)
        usable = self.usable_blocks(pool.name)
        return [owned for owned in usable if owned.allocator.is_idle(now, stay)]

    def is_idle(self, owned: OwnedBlock) -> bool:
        """Whether nothing of a block is used and nothing rests: it may be another node's."""
        cool_down = self.get_pool(owned.block.pool).cool_down
        return owned.allocator.is_idle(self.clock(), cool_down)

    def find_holder(self, address: Address) -> Attachment | None:
        """The attachment that holds ``address``."""
        for attachment in self.attachments.values():
            if address in attachment.addresses:
                return attachment
        return None

    def find_block(self, address: Address) -> OwnedBlock | None:
        """The owned block ``address`` lies in."""
        for owned in self.blocks.values():
            if owned.block.find_offset(address) is not None:
                return owned
        return None

    def with_pools(self, pools: Iterable[Pool]) -> dict[PoolName, Pool]:
        """What ``pools`` would be with these: one with blocks here is kept in any case."""
        found = {pool.name: pool for pool in pools if pool.name not in self.conflicts}
        for name in {block_id.pool for block_id in self.blocks} - found.keys():
            found[name] = self.pools[name]
        return found

    def find_conflicts(self, pools: Iterable[Pool]) -> dict[PoolName, str]:
        """By name, why pools cannot be those that this node's blocks and attachments are of.

        A pool never changes but at its end, and no two share an address; a store that was lost and
        made anew by hand may say otherwise. Its addresses would be given twice.
        """
        changed = [pool for pool in pools if self.pools.get(pool.name) != pool]
        reasons = ((pool, self._find_conflict(pool)) for pool in changed)
        return {pool.name: reason for pool, reason in reasons if reason}

    def _find_conflict(self, pool: Pool) -> str:
        for attachment in self.attachments.values():
            address = attachment.addresses[0]
            block = pool.find_block(address)
            place = (block.id, block.find_offset(address)) if block else None
            held = (attachment.block, attachment.offset)
            if place != (held if attachment.block.pool == pool.name else None):
                return _told_conflict(pool, f"container {attachment.key} has {address}", held[0])
        for owned in self.blocks.values():
            block = pool.find_block(owned.block.networks[0].network_address)
            if block != (owned.block if owned.block.pool == pool.name else None):
                return _told_conflict(pool, f"this node has {owned.block}", owned.block.id)
        return ""


def _told_conflict(pool: Pool, holding: str, block: BlockId) -> str:
    subnets = " ".join(map(str, pool.subnets))
    return (
        f"pool {pool.name} is {subnets} in the store now, but {holding} of block {block} as it "
        "was before: it gives nothing here until that has gone; delete these pods, or make the "
        "pool what it was"
    )
