"""Keeps this node's routes equal to what the store says of other nodes, for ever.

Woken by the store's watches, by netlink events and by a period. Before all of the store was seen
once nothing is touched, and losing the store changes nothing: routes stay when this program ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from coil.domain.block import BlockClaim, BlockId
from coil.domain.errors import CoilError
from coil.domain.names import NodeName, PoolName
from coil.domain.node import NodeRecord
from coil.domain.pool import Pool
from coil.nodenet.events import Event, EventSocket
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.observe import find_link_to, list_rules
from coil.nodenet.plan import find_owner
from coil.nodenet.routes import RouteChanges, remove_rule, sync_next_hops, sync_rule
from coil.process.problems import Problems
from coil.process.retry import Backoff, sleep
from coil.router.settings import Settings
from coil.router.wanted import Cluster, Wanted, want_routes
from coil.store.contract import Store

_log = structlog.get_logger()

_SETTLE_SECONDS = 0.1
"""Between a wake-up and its pass: changes come in bursts, and a claim, its pool and its node's
record by three watches."""


class RouteKeeper:
    """See module."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        problems: Problems,
        say: Callable[[str], None],
    ) -> None:
        """``say`` is told in one line how things are, after each pass."""
        self._settings = settings
        self._store = store
        self._problems = problems
        self._say = say
        self._verified = False
        """Whether the store is one of ours: what another format says may mean anything."""
        self._pools: Mapping[PoolName, Pool] | None = None
        self._claims: Mapping[BlockId, BlockClaim] | None = None
        self._nodes: Mapping[NodeName, NodeRecord] | None = None
        self._wake = asyncio.Event()
        self.synced = asyncio.Event()
        """Set after the first pass with all that the store has."""

    async def check_store(self) -> None:
        """See whether the store is one of ours and can be asked, for ever."""
        period = self._settings.period
        backoff = Backoff(initial=min(0.2, period), maximum=period)
        while True:
            try:
                await self._store.identity()
            except CoilError as exc:
                self._problems.put("store", exc.message)
                pause = backoff.next()
            else:
                self._problems.clear("store")
                backoff.reset()
                pause = period
                if not self._verified:
                    self._verified = True
                    self._wake.set()
            await asyncio.sleep(pause)

    async def watch_pools(self) -> None:
        """Follow pools, for ever."""
        async for pools in self._store.watch_pools():
            self._pools = {pool.name: pool for pool in pools}
            self._wake.set()

    async def watch_claims(self) -> None:
        """Follow who owns which block, for ever."""
        async for claims in self._store.watch_claims():
            self._claims = claims
            self._wake.set()

    async def watch_nodes(self) -> None:
        """Follow where nodes are, for ever."""
        async for nodes in self._store.watch_nodes():
            self._nodes = nodes
            self._wake.set()

    async def watch_kernel(self) -> None:
        """Wake for what others do to our routes, and to the links they lead over, for ever."""
        events = EventSocket(
            [self._settings.router_table], protocol=self._settings.router_protocol, arrivals=True
        )
        await events.watch(_matters, self._wake.set)

    async def run(self) -> None:
        """Sync when woken and every period, for ever."""
        while True:
            await self.sync()
            if await sleep(self._settings.period, self._wake):
                await asyncio.sleep(_SETTLE_SECONDS)
            self._wake.clear()

    async def sync(self) -> None:
        """One pass. What is wrong becomes a problem; this raises nothing expected."""
        cluster = self._cluster()
        try:
            wanted, changes = await asyncio.to_thread(self._make_so, cluster)
        except CoilError as exc:
            self._problems.put("kernel", exc.message)
            return
        self._problems.clear("kernel")
        if changes:
            _log.info("routes changed", added=changes.added, removed=changes.removed)
        if wanted is None:
            return
        for subject, fault in wanted.faults.items():
            self._problems.put("route", fault, subject)
        self._problems.keep("route", set(wanted.faults))
        self._say(f"{len(wanted.hops)} routes, {len(self._problems.list())} problems")
        self.synced.set()

    def _cluster(self) -> Cluster | None:
        if not self._verified or self._pools is None or self._claims is None or self._nodes is None:
            return None
        return Cluster(self._pools, self._claims, self._nodes)

    def _make_so(self, cluster: Cluster | None) -> tuple[Wanted | None, RouteChanges]:
        settings = self._settings
        with NetlinkSocket() as netlink:
            changes = sync_rule(
                netlink,
                list_rules(netlink),
                priority=settings.router_rule_priority,
                table=settings.router_table,
            )
            if cluster is None:
                return None, changes
            wanted = want_routes(
                cluster, settings.node_name, lambda address: find_link_to(netlink, address)
            )
            synced = sync_next_hops(
                netlink,
                wanted.hops,
                table=settings.router_table,
                protocol=settings.router_protocol,
            )
        return wanted, RouteChanges(changes.added + synced.added, synced.removed)


def _matters(event: Event) -> bool:
    """Pods come and go with links and addresses of their own: no next hop depends on them."""
    if event.link_alias is not None:
        return find_owner(event.link_alias) is None
    if event.address is not None:
        return event.address.prefixlen < event.address.address.max_prefixlen
    return True


def flush(settings: Settings) -> RouteChanges:
    """Remove all routes and rules of this program. Idempotent."""
    with NetlinkSocket() as netlink:
        remove_rule(netlink, priority=settings.router_rule_priority, table=settings.router_table)
        return sync_next_hops(
            netlink, {}, table=settings.router_table, protocol=settings.router_protocol
        )
