"""What the store says, as far as a ToR of one rack must know it; followed for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

from coil.domain.aggregate import usable_aggregates
from coil.domain.block import BlockClaim, BlockId
from coil.domain.errors import CoilError
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import NodeRecord
from coil.domain.pool import Network, Pool
from coil.process.problems import Problems
from coil.process.retry import Backoff
from coil.store.contract import Store

_CHECK_SECONDS = 30.0


class View:
    """The last state seen of each kind. A store that is away leaves it as it is."""

    def __init__(
        self,
        store: Store,
        rack: RackName,
        problems: Problems,
        *,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._rack = rack
        self._problems = problems
        self._grace = grace
        self._clock = clock
        self._verified = False
        """Whether the store is one of ours: what another format says may mean anything."""
        self._pools: Mapping[PoolName, Pool] | None = None
        self._ranges: Mapping[BlockId, RackName] | None = None
        self._claims: Mapping[BlockId, BlockClaim] | None = None
        self._nodes: Mapping[NodeName, NodeRecord] | None = None
        self._fresh: dict[BlockClaim, float] = {}
        """When claims that came lately were first seen."""

    async def check_store(self) -> None:
        """See whether the store is one of ours and can be asked, for ever."""
        backoff = Backoff(initial=0.2, maximum=_CHECK_SECONDS)
        while True:
            try:
                await self._store.identity()
            except CoilError as exc:
                self._problems.put("store", exc.message)
                await asyncio.sleep(backoff.next())
            else:
                self._problems.clear("store")
                self._verified = True
                backoff.reset()
                await asyncio.sleep(_CHECK_SECONDS)

    async def watch_pools(self) -> None:
        """Follow pools, for ever."""
        async for pools in self._store.watch_pools():
            self._pools = {pool.name: pool for pool in pools}

    async def watch_ranges(self) -> None:
        """Follow whose ranges are, for ever."""
        async for ranges in self._store.watch_ranges():
            self._ranges = ranges

    async def watch_claims(self) -> None:
        """Follow who owns which block, for ever."""
        async for claims in self._store.watch_claims():
            if self._claims is not None:
                new = set(claims.values()) - set(self._claims.values())
                self._fresh |= dict.fromkeys(new, self._clock())
            self._claims = claims

    async def watch_nodes(self) -> None:
        """Follow which rack nodes are in, for ever."""
        async for nodes in self._store.watch_nodes():
            self._nodes = nodes

    def find_usable(self, reached: Collection[Network]) -> list[Network] | None:
        """The aggregates that may be announced; None before all was seen once."""
        pools, ranges = self._pools, self._ranges
        claims, nodes = self._claims, self._nodes
        if not self._verified or pools is None or ranges is None or claims is None or nodes is None:
            return None
        racks = {name: record.rack for name, record in nodes.items()}
        owners = self._owners(pools, claims, racks, reached)
        return [
            prefix
            for pool in pools.values()
            for prefix in usable_aggregates(
                pool,
                {key.index: rack for key, rack in ranges.items() if key.pool == pool.name},
                self._rack,
                claims=owners[pool.name],
                reached=reached,
            )
        ]

    def _owners(
        self,
        pools: Mapping[PoolName, Pool],
        claims: Mapping[BlockId, BlockClaim],
        racks: Mapping[NodeName, RackName | None],
        reached: Collection[Network],
    ) -> dict[PoolName, dict[int, RackName | None]]:
        """The racks of owners by pool and block; without new blocks whose route is on its way."""
        oldest = self._clock() - self._grace
        self._fresh = {claim: seen for claim, seen in self._fresh.items() if seen > oldest}
        found: dict[PoolName, dict[int, RackName | None]] = {name: {} for name in pools}
        for block, claim in claims.items():
            pool = pools.get(block.pool)
            if pool and (claim not in self._fresh or _is_reached(pool, block, reached)):
                found[block.pool][block.index] = racks.get(claim.node)
        return found


def _is_reached(pool: Pool, block: BlockId, reached: Collection[Network]) -> bool:
    if block.index >= pool.block_count:
        return False
    return all(network in reached for network in pool.block(block.index).networks)
