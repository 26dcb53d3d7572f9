"""ADD, DEL and CHECK of one attachment. Keyed by (container id, ifname), in order for each.

Release comes last: an address is given back only when nothing in the kernel has it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import structlog

from coil.daemon.fetch import BlockFetcher
from coil.daemon.inventory import Address, Inventory, OwnedBlock
from coil.daemon.locks import AttachmentLocks
from coil.daemon.opener import NetnsOpener
from coil.daemon.steps import (
    ADD_DONE,
    ADD_JOURNALED,
    DEL_DONE,
    DEL_STARTED,
    DEL_UNLINKED,
    StepHook,
)
from coil.daemon.vigil import Vigil
from coil.daemon.workers import Workers, unstoppable
from coil.domain.attachment import Attachment, AttachmentKey, Netns, Pod
from coil.domain.errors import AddressInUse, AttachmentNotFound, RequestError
from coil.domain.names import IfName, PoolName
from coil.domain.pool import Pool
from coil.journal.journal import Journal
from coil.nodenet.errors import LinkExists, NetnsGone, NetnsInvalid, NetnsSilent
from coil.nodenet.inspect import host_faults, node_faults, pod_faults
from coil.nodenet.netns import NetnsHandle
from coil.nodenet.observe import HostState, observe_link
from coil.nodenet.plan import GATEWAYS, Tables, calico_ifname, host_ifname, pod_mac
from coil.nodenet.removal import LinkRemover
from coil.nodenet.veth import attach, rename_host_end

_log = structlog.get_logger()

IPV6_MIN_MTU = 1280  # RFC 8200, section 5


@dataclass(frozen=True, slots=True)
class AddCall:
    """What an ADD asks for, checked."""

    key: AttachmentKey
    netns_path: str
    network: str
    pool: PoolName | None
    mtu: int | None
    pod: Pod


class Attacher:
    """Carries out ADD, DEL and CHECK against journal, kernel and inventory."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        fetcher: BlockFetcher,
        vigil: Vigil,
        journal: Journal,
        workers: Workers,
        opener: NetnsOpener,
        remover: LinkRemover,
        locks: AttachmentLocks,
        tables: Tables,
        mtu: Callable[[], int],
        calico_names: bool,
        step: StepHook,
    ) -> None:
        self._inventory = inventory
        self._fetcher = fetcher
        self._vigil = vigil
        self._journal = journal
        self._workers = workers
        self._opener = opener
        self._remover = remover
        self._locks = locks
        self._tables = tables
        self._mtu = mtu
        self._calico_names = calico_names
        self._step = step

    async def add(self, call: AddCall, check_caller: Callable[[], None]) -> Attachment:
        """Attach a container; the same call again converges and returns the same attachment.

        ``check_caller`` raises when the caller is gone: an ADD whose plugin was killed must not
        begin after its DEL. On any failure or cancellation everything of it is undone.
        """
        async with self._locks.hold(call.key):
            check_caller()
            await self._vigil.confirm()
            existing = self._inventory.attachments.get(call.key)
            if existing is not None:
                _check_network(existing, call)
                with await self._opener.open(Netns(call.netns_path)) as netns:
                    return self._again(existing, netns)
            pool = self._inventory.choose_pool(call.pool, call.pod.namespace)
            owned, offset = await self._fetcher.allocate(pool, call.key)
            try:
                attachment = self._planned(call, pool, owned, offset)
                await self._displace(attachment)
                # Now, not before: those who wait for a block must not hold descriptors.
                with await self._opener.open(attachment.netns) as netns:
                    check_caller()
                    await self._vigil.confirm()
                    self._inventory.check_owned(owned, offset)
                    return self._make(attachment, netns)
            except BaseException:
                self._inventory.release(owned.block.id, offset, cools=False)
                raise

    def _planned(self, call: AddCall, pool: Pool, owned: OwnedBlock, offset: int) -> Attachment:
        mtu = call.mtu or self._mtu()
        if 6 in pool.families and mtu < IPV6_MIN_MTU:
            raise RequestError(
                f"mtu {mtu} is too small for IPv6, which pool {pool.name} has: use at least "
                f"{IPV6_MIN_MTU}"
            )
        return Attachment(
            key=call.key,
            block=owned.block.id,
            offset=offset,
            addresses=owned.block.addresses(offset),
            netns=Netns(call.netns_path),
            host_ifname=self._host_ifname(call),
            mac=pod_mac(call.key),
            mtu=mtu,
            created_at=int(time.time()),
            network=call.network,
            pod=call.pod,
        )

    def _host_ifname(self, call: AddCall) -> IfName:
        """Of a pod's interfaces the first has the name by the pod, as long as its sandbox lives."""
        by_key = host_ifname(call.key)
        if not self._calico_names or not call.pod.name:
            return by_key
        by_pod = calico_ifname(call.pod)
        siblings = (
            other.host_ifname
            for other in self._inventory.attachments.values()
            if other.key.container_id == call.key.container_id
        )
        return by_key if by_pod in siblings else by_pod

    def _make(self, planned: Attachment, netns: NetnsHandle) -> Attachment:
        """Journal, then kernel; undone on failure. The loop's thread waits: adr/0006."""
        attachment = replace(planned, netns=Netns(netns.path, netns.inode))
        self._journal.put_attachment(attachment)
        try:
            self._step(ADD_JOURNALED)
            attach(self._workers.netlink, netns, attachment, self._tables, self._step)
        except Exception:
            self._journal.remove_attachments([attachment], freed_at=None)
            raise
        self._step(ADD_DONE)
        self._inventory.put_attachment(attachment)
        _later(_say_allocated, attachment)
        return attachment

    def _again(self, existing: Attachment, netns: NetnsHandle) -> Attachment:
        """The same attachment once more: complete what is missing. Its namespace may be new.

        The kernel first: when that fails journal and memory are what they were. Raises AddressInUse
        for one whose block was lost: another node may have given its address to somebody by now.
        """
        if existing.block not in self._inventory.blocks:
            raise AddressInUse(
                f"{existing.addresses[0]} is not this node's any more, block {existing.block} was "
                f"taken from it: delete container {existing.key.container_id} and make it anew"
            )
        attachment = replace(existing, netns=Netns(netns.path, netns.inode))
        attach(self._workers.netlink, netns, attachment, self._tables, self._step)
        if attachment != existing:
            self._journal.put_attachment(attachment)
            self._inventory.put_attachment(attachment)
        return attachment

    async def _displace(self, coming: Attachment) -> None:
        """Free a Calico-compatible link name that an older sandbox of the same pod still has."""
        if not self._calico_names:  # all names are different, and a node may have a thousand
            return
        for other in self._inventory.attachments.values():
            if other.host_ifname == coming.host_ifname and other.key != coming.key:
                # Its lock: a DEL of it that runs now must not see it come back.
                async with self._locks.hold(other.key):
                    if self._inventory.attachments.get(other.key) == other:
                        self._rename(other)
                return

    def _rename(self, other: Attachment) -> None:
        """Give another attachment's link the name made from its key; as ``_again``."""
        renamed = replace(other, host_ifname=host_ifname(other.key))
        rename_host_end(self._workers.netlink, other.host_ifname, renamed, self._tables)
        self._journal.put_attachment(renamed)
        self._inventory.put_attachment(renamed)

    async def delete(self, key: AttachmentKey, network: str = "") -> bool:
        """Detach and give the address back; False when there was nothing. Idempotent.

        ``network``: whose DEL it is, empty for nobody's. What another network holds stays: runtimes
        send a DEL after an ADD that was refused for that very reason.
        """
        async with self._locks.hold(key):
            attachment = self._inventory.attachments.get(key)
            if attachment is not None and _is_foreign(attachment, network):
                reason = _whose(attachment, network)
                _log.warning("left alone", reason=reason, **fields_of(attachment))
                return False
            if attachment is None:
                # An attachment whose journal was lost may have left a link under its own name, one
                # whose ADD could not be undone (the disk was full) an entry in the journal.
                await unstoppable(self._remover.remove(key, None))
                self._journal.forget_attachment(key)
                return False
            self._step(DEL_STARTED)
            await self._take_down(attachment)
            return True

    async def delete_if_same(self, attachment: Attachment) -> bool:
        """As ``delete``, but only while the attachment is still this one (for collectors)."""
        async with self._locks.hold(attachment.key):
            if self._inventory.attachments.get(attachment.key) != attachment:
                return False
            await self._take_down(attachment)
            return True

    async def _take_down(self, attachment: Attachment) -> None:
        """Link, then journal, then memory. Once begun it is finished, also when cancelled."""
        unlinking = unstoppable(self._remover.remove(attachment.key, attachment))
        try:
            await unlinking
        finally:
            if unlinking.exception() is None:
                self._forget(attachment)

    def _forget(self, attachment: Attachment) -> None:
        self._step(DEL_UNLINKED)
        freed_at = self._inventory.clock()
        self._journal.remove_attachments([attachment], freed_at)
        self._inventory.release(attachment.block, attachment.offset)
        owned = self._inventory.blocks.get(attachment.block)
        if owned and not owned.allocator.used_count:  # it may be one too many
            self._fetcher.look_at(attachment.block.pool)
        self._step(DEL_DONE)
        _later(_say_freed, attachment)

    async def faults(
        self,
        key: AttachmentKey,
        netns_path: str = "",
        *,
        gateways: Collection[Address] = frozenset(GATEWAYS.values()),
    ) -> list[str]:
        """What is wrong with an attachment, in kernel and pod. Raises AttachmentNotFound.

        ``netns_path``: where its namespace is by the caller's word; else where it was at ADD. Where
        neither is known (it was recovered from the kernel) only the host's side is looked at.
        ``gateways``: to which of coil's the pod is to have a default route.
        """
        async with self._locks.hold(key):
            attachment = self.get(key)
            netns = Netns(netns_path or attachment.netns.path, attachment.netns.inode)
            ifname, tables = attachment.host_ifname, self._tables
            state = await self._workers.run(lambda nl: observe_link(nl, tables, ifname))
            return [
                *host_faults(state, [attachment], tables).get(key, ()),
                *self._node_faults(state, attachment),
                *(await self._pod_faults(attachment, netns, gateways) if netns.path else ()),
            ]

    def _node_faults(self, state: HostState, attachment: Attachment) -> list[str]:
        owned = self._inventory.blocks.get(attachment.block)
        found = node_faults(state, attachment, owned.block.networks if owned else (), self._tables)
        if owned is None:
            found.append(f"block {attachment.block} is not this node's any more: recreate the pod")
        return found

    async def _pod_faults(
        self, attachment: Attachment, netns: Netns, gateways: Collection[Address]
    ) -> list[str]:
        try:
            with await self._opener.open(netns) as handle:
                return await self._workers.run(
                    lambda _netlink: pod_faults(handle, attachment, gateways)
                )
        except (NetnsGone, NetnsInvalid, NetnsSilent) as exc:
            return [exc.message]

    def get(self, key: AttachmentKey, network: str = "") -> Attachment:
        """What ``network``, or any, holds. Raises AttachmentNotFound."""
        attachment = self._inventory.attachments.get(key)
        if attachment is None:
            raise AttachmentNotFound(
                f"this node has no attachment {key}", container_id=key.container_id
            )
        if _is_foreign(attachment, network):
            raise AttachmentNotFound(_whose(attachment, network), container_id=key.container_id)
        return attachment


def _is_foreign(attachment: Attachment, network: str) -> bool:
    """Whether it is another network's. What was recovered from the kernel may be anyone's."""
    return network != "" and attachment.network not in ("", network)


def _whose(attachment: Attachment, network: str) -> str:
    return f"attachment {attachment.key} is network {attachment.network}'s, not {network}'s"


def _check_network(existing: Attachment, call: AddCall) -> None:
    """An interface that another network has given is no repeat: its address is of that one's pool.

    Raises LinkExists.
    """
    if _is_foreign(existing, call.network):
        raise LinkExists(
            f"CNI_IFNAME {call.key.ifname} of container {call.key.container_id} is network "
            f"{existing.network}'s already; give network {call.network} another one"
        )


def _later(say: Callable[[Attachment], None], attachment: Attachment) -> None:
    """Log once the answer has gone out: a line costs a tenth of an ADD."""
    asyncio.get_running_loop().call_soon(say, attachment)


def _say_allocated(attachment: Attachment) -> None:
    _log.info("address allocated", **fields_of(attachment))


def _say_freed(attachment: Attachment) -> None:
    _log.info("address freed", **fields_of(attachment))


def fields_of(attachment: Attachment) -> dict[str, object]:
    """An attachment as log fields."""
    return {
        "address": ",".join(map(str, attachment.addresses)),
        "pool": attachment.block.pool,
        "block": str(attachment.block),
        "container_id": attachment.key.container_id,
        "ifname": attachment.key.ifname,
        "namespace": attachment.pod.namespace,
        "pod": attachment.pod.name,
    }
