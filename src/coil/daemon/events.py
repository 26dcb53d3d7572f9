"""Turns netlink events into repair passes: only what concerns attachments at rest counts."""

from __future__ import annotations

from coil.daemon.inventory import Inventory
from coil.daemon.locks import AttachmentLocks
from coil.daemon.repair import Repairer
from coil.nodenet.events import Event, EventSocket
from coil.nodenet.parse import Route
from coil.nodenet.plan import Tables, find_owner


class EventWatcher:
    """Reads the event socket on the loop."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        locks: AttachmentLocks,
        repairer: Repairer,
        tables: Tables,
    ) -> None:
        self._inventory = inventory
        self._locks = locks
        self._repairer = repairer
        self._tables = tables

    async def run(self) -> None:
        """Watch for ever."""
        events = EventSocket(
            (self._tables.pod_table, self._tables.export_table), protocol=self._tables.protocol
        )
        self._repairer.wake()  # for what has happened since the pass of the start
        await events.watch(self._matters, self._repairer.wake)

    def _matters(self, event: Event) -> bool:
        """Whether something of ours changed that no verb in flight is changing."""
        if event.link_alias is not None:
            owner = find_owner(event.link_alias)
            return (
                owner is not None
                and owner.key in self._inventory.attachments
                and not self._locks.is_held(owner.key)
            )
        if event.route is not None:
            return self._route_matters(event.route)
        # Addresses go with each link: while links come and go they say nothing, and the period
        # sees to it. Rules and settings of all links don't.
        return not event.address_gone or not self._locks

    def _route_matters(self, route: Route) -> bool:
        first = route.network.network_address
        if route.table == self._tables.export_table:
            # It may be the main table, where a routing daemon changes thousands of its own.
            return route.protocol == self._tables.protocol or bool(
                self._inventory.find_block(first)
            )
        if route.unreachable:
            return True
        holder = self._inventory.find_holder(first)
        return holder is not None and not self._locks.is_held(holder.key)
