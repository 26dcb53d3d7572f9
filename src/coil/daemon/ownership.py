"""Keeps pools and owned blocks equal to what the store says. Losing the store changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Sequence

import structlog

from coil.daemon.blocks import BlockKeeper
from coil.daemon.fetch import BlockFetcher
from coil.daemon.inventory import Inventory
from coil.daemon.presence import Presence
from coil.daemon.recover import Recoverer
from coil.domain.errors import (
    CoilError,
    NodeNameInDoubt,
    NodeNameTaken,
    PoolExists,
    SubnetOverlap,
)
from coil.domain.names import NodeName
from coil.domain.pool import Pool
from coil.journal.errors import JournalError
from coil.journal.journal import Journal
from coil.process.beat import Beat
from coil.process.problems import Problems
from coil.store.contract import Store
from coil.store.open import shown_url

_log = structlog.get_logger()

_FIRST_SYNC_SECONDS = 2.0
"""How long the start waits for the store; then what the journal says is served."""


class Ownership:
    """Watches the store; syncs at start, on its word, and every period."""

    def __init__(
        self,
        *,
        node: NodeName,
        presence: Presence,
        store: Store,
        store_url: str,
        journal: Journal,
        inventory: Inventory,
        keeper: BlockKeeper,
        fetcher: BlockFetcher,
        recoverer: Recoverer,
        problems: Problems,
        alarm: asyncio.Event,
        beat: Beat,
    ) -> None:
        """``alarm``: set whenever the store could not be asked."""
        self._node = node
        self._presence = presence
        self._store = store
        self._url = shown_url(store_url)
        self._journal = journal
        self._inventory = inventory
        self._keeper = keeper
        self._fetcher = fetcher
        self._recoverer = recoverer
        self._problems = problems
        self._alarm = alarm
        self._beat = beat
        self._one_sync = asyncio.Lock()
        self.name_taken = ""
        """Why this node's name is not ours, empty while it is."""
        self._doubt_ends = math.inf
        """When, on the inventory's clock, it will be known whether another boot that had the name
        lives."""
        self.heard_at = 0.0
        """When the last sync began that the store answered, on the inventory's clock."""

    async def watch_pools(self) -> None:
        """Apply pool changes live, for ever."""
        async for pools in self._store.watch_pools():
            try:
                await self._set_pools(pools)
            except JournalError as exc:  # the next sync tries again
                self._problems.put("journal", exc.message)
            except CoilError as exc:
                _log.warning("pools are taken in later", reason=exc.message)
        raise RuntimeError("the watch of pools ended")

    async def watch_blocks(self) -> None:
        """Sync whenever the store's word on our blocks changes, for ever."""
        async for claims in self._store.watch_node_blocks(self._node):
            if not await self._keeper.has_exactly(claims):
                await self.sync()
        raise RuntimeError("the watch of blocks ended")

    async def resync(self) -> None:
        """Sync every period, for ever: finds what no watch tells (a store made anew)."""
        while True:
            await self._beat.wait()
            await self.sync()

    async def first_sync(self, stopping: Callable[[], Awaitable[None]]) -> None:
        """As ``sync``, at the start: a store that does not answer holds nobody up.

        Another boot that had the name just now does, until it is known not to live, or until
        ``stopping`` returns.
        """
        await self._sync_soon()
        if self._doubt_ends < math.inf:
            seconds = self._doubt_ends - self._inventory.clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stopping()
            await self._sync_soon()

    async def _sync_soon(self) -> None:
        try:
            async with asyncio.timeout(_FIRST_SYNC_SECONDS):
                await self.sync()
        except TimeoutError:
            self._miss(f"{self._url} does not answer: the journal is relied on")

    async def sync(self) -> bool:
        """Be equal to the store; False when it could not be asked.

        A store that can't be asked, or that says that somebody else is this node, is a problem,
        never an exception.
        """
        try:
            async with self._one_sync:
                began = self._inventory.clock()
                await self._sync()
        except NodeNameTaken as exc:
            await self._lose_name(exc.message)
            return True
        except NodeNameInDoubt as exc:
            return await self._doubt_name(exc)
        except JournalError as exc:
            self._problems.put("journal", exc.message)
            return False
        except CoilError as exc:
            self._miss(exc.message)
            return False
        self.heard_at = began
        self._problems.clear("store")
        self._problems.clear("node name")
        self.name_taken = self._keeper.name_taken = ""
        self._doubt_ends = math.inf
        return True

    async def _doubt_name(self, exc: NodeNameInDoubt) -> bool:
        """Of no other boot that was rebooted would anything be heard when the doubt ends."""
        now = self._inventory.clock()
        if now >= self._doubt_ends:
            await self._lose_name(exc.message)
            return True
        self._doubt_ends = min(self._doubt_ends, now + exc.seconds)
        self._keeper.name_taken = exc.message
        self._problems.put("node name", exc.message)
        return False

    async def _lose_name(self, reason: str) -> None:
        self.name_taken = self._keeper.name_taken = reason
        self._problems.put("node name", reason)
        await self._keeper.disown()

    def _miss(self, reason: str) -> None:
        self._problems.put("store", reason)
        self._alarm.set()

    async def recover(self) -> None:
        """Take in what the kernel has and the journal does not know; before anything is given.

        Of a new journal this is done as soon as pools are known.
        """
        if self._inventory.pools:
            await self._recoverer.recover(())

    async def _sync(self) -> None:
        await self._presence.hold_name()
        identity = f"{await self._store.identity()} {self._url}"
        known = self._journal.store_identity()
        restore = self._is_remade(known, identity)
        if restore:
            await self._restore_pools()
        await self._set_pools(await self._store.list_pools())
        await self._keeper.sync(restore=restore, past_known=bool(known))
        if self._inventory.conflicts:  # which end with the blocks that have been lost now
            await self._set_pools(await self._store.list_pools())
        if known != identity:
            self._journal.set_store_identity(identity)

    def _is_remade(self, known: str, identity: str) -> bool:
        """Whether the embedded store was made anew under the same URL: then we know better."""
        if not known or known == identity or not self._url.startswith("sqlite:"):
            return False
        return known.partition(" ")[2] == self._url

    async def _restore_pools(self) -> None:
        for pool in list(self._inventory.pools.values()):
            try:
                await self._store.create_pool(pool)
                _log.error("store was made anew: pool put back from the journal", pool=pool.name)
            except (PoolExists, SubnetOverlap) as exc:
                _log.warning("store was made anew, with pools", reason=exc.message)

    async def _set_pools(self, pools: Sequence[Pool]) -> None:
        """Journal, then memory: one that was not journaled is tried again with the next sync.

        Before anything is claimed of a new one it is known who has addresses of it.
        """
        await self._recoverer.recover(pools)
        self._inventory.conflicts = self._inventory.find_conflicts(pools)
        before, after = self._inventory.pools, self._inventory.with_pools(pools)
        if after != before:
            self._journal.put_pools(after.values())
        # Both at once: a pool that is not there yet would be denied.
        self._inventory.pools = after
        self._inventory.pools_told = True
        if after == before:
            return
        _log.info("pools changed", pools=sorted(after))
        for name in after:
            if before.get(name) != after[name]:
                self._fetcher.reconsider(name)
