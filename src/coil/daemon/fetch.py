"""Blocks ahead of need: claims one when free addresses run low, gives idle ones back.

The only part of coild that an ADD may wait for, and only when the node has no free address.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from math import ceil

import structlog

from coil.daemon.blocks import BlockKeeper
from coil.daemon.inventory import Inventory, OwnedBlock
from coil.domain.attachment import AttachmentKey
from coil.domain.errors import CoilError, OutOfAddresses, OutOfBlocks
from coil.domain.level import low_water, missing_blocks, surplus_blocks
from coil.domain.names import PoolName
from coil.domain.pool import Pool
from coil.process.beat import Beat
from coil.process.retry import sleep

_log = structlog.get_logger()

DEFAULT_POOL = PoolName("default")
_PERIOD = 5.0
"""Seconds between looks for idle blocks and, after a failed claim, before the next."""
_SOON_LOOKS = 3
"""So many looks after something happened; then a burst is over, and the beat is often enough."""


class BlockFetcher:
    """Keeps every pool in use at low water or above, and not far above it."""

    def __init__(self, inventory: Inventory, keeper: BlockKeeper, beat: Beat) -> None:
        self._inventory = inventory
        self._keeper = keeper
        self._beat = beat
        self._waiting: dict[PoolName, list[asyncio.Future[None]]] = defaultdict(list)
        self._wanted: set[PoolName] = {DEFAULT_POOL}
        self._wake = asyncio.Event()
        self._not_before: dict[PoolName, float] = defaultdict(float)
        self.faults: dict[PoolName, CoilError] = {}
        """Why the last claim for a pool failed; gone with the next that succeeds."""

    async def more(self, pool: Pool) -> None:
        """Wait until a claim for ``pool`` has brought something; then try to allocate again.

        Raises what the claim failed with: OutOfBlocks, PoolCordoned, StoreError...
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[pool.name].append(future)
        self.look_at(pool.name)
        try:
            await future
        finally:
            if future in self._waiting[pool.name]:
                self._waiting[pool.name].remove(future)

    async def allocate(self, pool: Pool, key: AttachmentKey) -> tuple[OwnedBlock, int]:
        """Choose an address, waiting for a block only where this node has no free address.

        Raises PoolCordoned, PoolUnfit, PoolNotFound, or what the claim failed with: OutOfBlocks,
        StoreError.
        """
        while True:
            try:
                found = self._inventory.allocate(pool, key)
            except OutOfAddresses:
                await self.more(pool)
                pool = self._inventory.get_pool(pool.name)
            else:
                if self._inventory.free_count(pool) < low_water(pool):
                    self.look_at(pool.name)
                return found

    def look_at(self, pool: PoolName) -> None:
        """Have this pool's level checked soon."""
        self._wanted.add(pool)
        self._wake.set()

    def reconsider(self, pool: PoolName) -> None:
        """The pool has changed: forget why a claim failed, and look."""
        self._not_before.pop(pool, None)
        self.faults.pop(pool, None)
        self._wake.set()

    async def run(self) -> None:
        """Fetch and give back for ever."""
        looks = 0
        while True:
            self._wake.clear()
            for name in sorted(self._wanted | {b.pool for b in self._inventory.blocks}):
                await self._balance(name)
            woken = await self._pause(looks)
            looks = 0 if woken or self.faults else looks + 1

    async def _pause(self, looks: int) -> bool:
        """Wait for the next look; True when there is reason for one. ``looks``: since the last."""
        if looks < _SOON_LOOKS:
            return await sleep(_PERIOD, self._wake)
        return await self._beat.wait(self._wake)

    async def _balance(self, name: PoolName) -> None:
        pool = self._inventory.pools.get(name)
        if pool is None:
            self._settle(name)
            return
        missing = self._missing(pool)
        if missing and not self._waiting[name] and self._inventory.clock() < self._not_before[name]:
            return
        if missing:
            await self._fetch(pool, missing)
        else:
            self._settle(name)
            await self._give_back(pool)

    def _missing(self, pool: Pool) -> int:
        if not self._inventory.is_fit(pool):
            return 0
        waiting = len(self._waiting[pool.name])
        free, expected = self._inventory.free_count(pool), self._inventory.expected(pool, waiting)
        return missing_blocks(pool, free=free, waiting=waiting, expected=expected)

    async def _fetch(self, pool: Pool, count: int) -> None:
        try:
            await self._keeper.claim(pool.name, count)
        except CoilError as exc:
            if pool.name not in self.faults:
                _log.warning("cannot claim a block", pool=pool.name, reason=exc.message)
            self.faults[pool.name] = exc
            self._not_before[pool.name] = self._inventory.clock() + _PERIOD
            self._fail(pool.name, self._explained(pool, exc))
        else:
            self.faults.pop(pool.name, None)
            self._settle(pool.name)
            if self._missing(pool):
                self._wake.set()

    def _explained(self, pool: Pool, exc: CoilError) -> CoilError:
        if not isinstance(exc, OutOfBlocks):
            return exc
        return OutOfBlocks(
            f"pool {pool.name} is full: all its {pool.block_count} blocks are owned by nodes and "
            f"this node has no free address{self._cooling(pool)}; add a subnet with: coilctl pool "
            f"add-subnet {pool.name} SUBNET",
            pool=pool.name,
        )

    def _cooling(self, pool: Pool) -> str:
        """Tell how soon an address will have cooled, where one is cooling."""
        now = self._inventory.clock()
        free_at = [
            at
            for owned in self._inventory.usable_blocks(pool.name)
            for at in owned.allocator.cooling(now, pool.cool_down).values()
        ]
        if not free_at:
            return ""
        return f" ({len(free_at)} cooling, the first is free in {ceil(min(free_at) - now)} s)"

    def _settle(self, name: PoolName) -> None:
        for future in self._waiting.pop(name, []):
            if not future.done():
                future.set_result(None)

    def _fail(self, name: PoolName, exc: CoilError) -> None:
        """Fail those who wait; where some could still be served they try again first."""
        pool = self._inventory.pools.get(name)
        free = self._inventory.free_count(pool) if pool else 0
        for future in self._waiting.pop(name, []):
            if future.done():
                continue
            if free > 0:
                free -= 1
                future.set_result(None)
            else:
                future.set_exception(exc)

    async def _give_back(self, pool: Pool) -> None:
        """Continue releases that were begun, and release what is too much."""
        surplus = self._surplus(pool)
        if not surplus:
            return
        try:
            await self._keeper.release(surplus)
        except CoilError as exc:
            _log.warning("cannot give blocks back", pool=pool.name, reason=exc.message)

    def _surplus(self, pool: Pool) -> list[OwnedBlock]:
        half_released = [
            owned
            for owned in self._inventory.blocks.values()
            if owned.block.pool == pool.name and owned.releasing
        ]
        idle = self._inventory.idle_blocks(pool)
        free, expected = self._inventory.free_count(pool), self._inventory.expected(pool)
        count = surplus_blocks(pool, free=free, idle=len(idle), expected=expected)
        return half_released + idle[::-1][:count]
