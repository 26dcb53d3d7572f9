"""Rebuilds attachments from the kernel when the journal was lost: aliases, routes, pools."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from coil.daemon.attach import fields_of
from coil.daemon.inventory import Address, Inventory, Network
from coil.daemon.locks import AttachmentLocks
from coil.daemon.workers import Workers
from coil.domain.attachment import Attachment, Netns
from coil.domain.block import Block
from coil.domain.errors import CoilError
from coil.domain.names import IfName
from coil.domain.pool import Pool
from coil.journal.journal import Journal
from coil.nodenet.observe import HostLink, HostState, observe
from coil.nodenet.plan import LinkOwner, Tables, pod_mac
from coil.process.problems import Problems

_log = structlog.get_logger()


class Recoverer:
    """Finds links whose alias names an attachment that the journal does not know."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        journal: Journal,
        workers: Workers,
        locks: AttachmentLocks,
        tables: Tables,
        problems: Problems,
    ) -> None:
        self._inventory = inventory
        self._journal = journal
        self._workers = workers
        self._locks = locks
        self._tables = tables
        self._problems = problems
        self._looked = False
        self._is_done = False
        """Whether every link there was when coild started has been accounted for."""

    async def recover(self, pools: Iterable[Pool]) -> None:
        """Journal every such attachment before anything is given out. Idempotent.

        ``pools``: those that will be known beside the ones that are. A link whose addresses lie in
        none is a problem, and is looked at again with the next pools. The path of its namespace and
        its network's name are lost: only a DEL, or the link's end, ends it. A link without routes
        has no address to know; it is left for its DEL.
        """
        if self._is_done:
            return
        state = await self._workers.run(lambda netlink: observe(netlink, self._tables))
        if not self._looked:
            self._inventory.remember(_past_in(state, self._tables))
            self._looked = True
        known = [*pools, *self._inventory.pools.values()]
        left = {
            found.link.name: reason
            for found in state.links.values()
            if found.owner and (reason := await self._recover(state, found, found.owner, known))
        }
        self._problems.replace("link", left)
        self._is_done = not left

    async def _recover(
        self, state: HostState, found: HostLink, owner: LinkOwner, pools: list[Pool]
    ) -> str:
        """Why the attachment of a link stays unknown, empty where there is no reason to wait."""
        if owner.key in self._inventory.attachments:
            return ""
        addresses = _addresses_behind(state, found)
        if not addresses:
            _log.error("link without a known address", link=found.link.name)
            return ""
        place = _find_place(pools, addresses[0])
        if place is None:
            return (
                f"container {owner.key} has {addresses[0]}, which is of no pool there is, and only "
                "its link knows of it: make the pool it was of again, or delete the pod"
            )
        async with self._locks.hold(owner.key):
            # Since it was seen, a DEL may have come.
            if self._workers.netlink.find_ifindex(found.link.name) == found.link.ifindex:
                self._put(_rebuilt(found, owner, *place))
        return ""

    def _put(self, attachment: Attachment) -> None:
        if attachment.key in self._inventory.attachments:
            return
        try:
            self._inventory.put_attachment(attachment)
            self._journal.put_attachment(attachment)
        except CoilError as exc:
            _log.error("cannot recover attachment", link=attachment.host_ifname, reason=exc.message)
            return
        _log.error("attachment recovered from the kernel", **fields_of(attachment))


def _past_in(state: HostState, tables: Tables) -> list[Network]:
    """What the kernel has of this node's blocks: themselves, and addresses that pods have."""
    return [route.network for route in state.pod_routes if route.protocol == tables.protocol]


def _addresses_behind(state: HostState, found: HostLink) -> list[Address]:
    """What the pod table sends out by a link, IPv4 first."""
    addresses = [
        route.network.network_address
        for route in state.pod_routes
        if found.link.ifindex in route.ifindexes
    ]
    return sorted(addresses, key=lambda address: address.version)


def _find_place(pools: Iterable[Pool], address: Address) -> tuple[Block, int] | None:
    for pool in pools:
        block = pool.find_block(address)
        offset = block.find_offset(address) if block else None
        if block is not None and offset is not None:
            return block, offset
    return None


def _rebuilt(found: HostLink, owner: LinkOwner, block: Block, offset: int) -> Attachment:
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
