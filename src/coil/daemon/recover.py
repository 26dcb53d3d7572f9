"""Rebuilds attachments from the kernel when the journal was lost: aliases, routes, pools."""

from __future__ import annotations

import time

import structlog

from coil.daemon.attach import fields_of
from coil.daemon.inventory import Inventory
from coil.daemon.workers import Workers
from coil.domain.attachment import Attachment, Netns
from coil.domain.errors import CoilError
from coil.domain.names import IfName
from coil.journal.journal import Journal
from coil.nodenet.observe import HostLink, HostState, observe
from coil.nodenet.plan import LinkOwner, Tables, pod_mac

_log = structlog.get_logger()


class Recoverer:
    """Finds links whose alias names an attachment that the journal does not know."""

    def __init__(
        self, *, inventory: Inventory, journal: Journal, workers: Workers, tables: Tables
    ) -> None:
        self._inventory = inventory
        self._journal = journal
        self._workers = workers
        self._tables = tables

    async def recover(self) -> None:
        """Journal every such attachment before anything is given out. Idempotent.

        The path of its namespace and its network's name are lost: only a DEL, or the link's end,
        ends it. A link without routes has no address to know; it is left for its DEL.
        """
        state = await self._workers.run(lambda netlink: observe(netlink, self._tables))
        for found in state.links.values():
            if found.owner and found.owner.key not in self._inventory.attachments:
                self._recover(state, found, found.owner)

    def _recover(self, state: HostState, found: HostLink, owner: LinkOwner) -> None:
        attachment = self._rebuild(state, found, owner)
        if attachment is None:
            _log.error("link without a known address", link=found.link.name)
            return

        try:
            self._inventory.put_attachment(attachment)
            self._journal.put_attachment(attachment)
        except CoilError as exc:
            _log.error("cannot recover attachment", link=found.link.name, reason=exc.message)
            return
        _log.error("attachment recovered from the kernel", **fields_of(attachment))

    def _rebuild(self, state: HostState, found: HostLink, owner: LinkOwner) -> Attachment | None:
        pool = self._inventory.pools.get(owner.pool)
        addresses = sorted(
            (
                route.network.network_address
                for route in state.pod_routes
                if found.link.ifindex in route.ifindexes
            ),
            key=lambda address: address.version,
        )
        block = pool.find_block(addresses[0]) if pool and addresses else None
        offset = block.find_offset(addresses[0]) if block else None
        if block is None or offset is None:
            return None
        return Attachment(
            key=owner.key,
            block=block.id,
            offset=offset,
            addresses=block.addresses(offset),
            netns=Netns(""),
            host_ifname=IfName(found.link.name),
            mac=pod_mac(owner.key),
            mtu=found.link.mtu,
            created_at=int(time.time()),
            network="",
            pod=owner.pod,
        )
