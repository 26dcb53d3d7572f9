"""Makes the kernel what the journal says, at start and for ever.

Woken by netlink events (something of ours was deleted or went down) and every period. Works
attachment by attachment under the lock that ADD and DEL take.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import structlog

from coil.daemon.blocks import BlockKeeper
from coil.daemon.inventory import Inventory
from coil.daemon.locks import AttachmentLocks
from coil.daemon.opener import NetnsOpener
from coil.daemon.steps import no_step
from coil.daemon.workers import Workers
from coil.domain.attachment import Attachment
from coil.domain.errors import CoilError
from coil.nodenet.errors import NetnsGone, NodeNetError
from coil.nodenet.inspect import host_faults, link_faults
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.netns import NetnsHandle
from coil.nodenet.observe import HostState, Reading, interpret, read
from coil.nodenet.parse import Route
from coil.nodenet.plan import Tables
from coil.nodenet.routes import RouteChanges, remove_route, sync_rule
from coil.nodenet.veth import attach, ensure_host_end, settle_carriers
from coil.process.beat import Beat
from coil.process.problems import Problems
from coil.process.together import all_of

_log = structlog.get_logger()

_AGAIN = 1.0
"""Seconds until a pass is made again that found the kernel's tables changing all the time, or
attachments being worked on."""
_SETTLE = 0.05
"""Seconds between an event and the pass it causes: deletions come in bursts."""


class Repairer:
    """Compares desired with actual, and mends."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        keeper: BlockKeeper,
        workers: Workers,
        opener: NetnsOpener,
        locks: AttachmentLocks,
        tables: Tables,
        problems: Problems,
        beat: Beat,
    ) -> None:
        self._inventory = inventory
        self._keeper = keeper
        self._workers = workers
        self._opener = opener
        self._locks = locks
        self._tables = tables
        self._problems = problems
        self._beat = beat
        self._wake = asyncio.Event()
        self._well: tuple[bytes, object] | None = None
        """What the kernel told and what was wanted, when the last pass found nothing to mend."""

    def wake(self) -> None:
        """Have a pass made soon."""
        self._wake.set()

    @property
    def found_all_well(self) -> bool:
        """Whether the last pass found nothing to mend, and nothing has been asked for since."""
        return self._well is not None and not self._wake.is_set()

    async def run(self) -> None:
        """Repair for ever."""
        while True:
            if await self._beat.wait(self._wake):
                await asyncio.sleep(_SETTLE)
            self._wake.clear()
            await self.repair()

    async def repair(self) -> None:
        """One pass. What can't be mended becomes a problem; this raises nothing expected."""
        try:
            await self._pass()
        except CoilError as exc:
            if exc.transient:
                _log.warning("repair is put off", reason=exc.message)
                self._wake_later()
            else:
                self._problems.put("kernel", exc.message)
        else:
            self._problems.clear("kernel")

    def _wake_later(self) -> None:
        asyncio.get_running_loop().call_later(_AGAIN, self.wake)

    async def _pass(self) -> None:
        wanted = self._wanted()
        reading, digest = await self._workers.run(self._read)
        self._inventory.versions = reading.versions
        self._problems.replace("pool", self._inventory.unfit_pools())
        seen = (digest, wanted)
        if seen == self._well:
            return
        state = await self._workers.run(lambda _netlink: interpret(reading))
        mended = await self._mend_all(state)
        self._well = None if mended else seen

    def _read(self, netlink: NetlinkSocket) -> tuple[Reading, bytes]:
        reading = read(netlink, self._tables)
        return reading, reading.digest()

    def _wanted(self) -> object:
        """Equal to another only while the kernel should be the same."""
        keeper, inventory = self._keeper, self._inventory
        blocks = ((id_, o.releasing, o.exported) for id_, o in inventory.blocks.items())
        return inventory.changes, keeper.in_doubt, keeper.cut_off, tuple(blocks)

    async def _mend_all(self, state: HostState) -> bool:
        """Whether there was anything to mend."""
        changes = [
            await self._workers.run(lambda netlink: self._repair_rules(netlink, state)),
            await self._keeper.sync_routes(),
        ]
        attachments = self._inventory.attachments
        faults = host_faults(state, list(attachments.values()), self._tables)
        broken = [attachments[key] for key in faults]
        self._problems.keep("attachment", {str(key) for key in faults})
        free = [each for each in broken if not self._locks.is_held(each.key)]
        mended = await all_of(self._repair_attachment(attachment) for attachment in free)
        strays = await self._remove_strays(state)
        # Whoever works on them must delay nobody else's repair; and what broke again while a repair
        # had the lock was told to nobody.
        if len(free) < len(broken) or any(mended):
            self._wake_later()
        return bool(broken or strays or any(changes))

    def _repair_rules(self, netlink: NetlinkSocket, state: HostState) -> RouteChanges:
        tables = self._tables
        changes = sync_rule(
            netlink, state.rules, priority=tables.rule_priority, table=tables.pod_table
        )
        if changes:
            _log.warning("repaired rules", added=changes.added)
        return changes

    async def _repair_attachment(self, attachment: Attachment) -> bool:
        """Mend one attachment, unless it changed since or its pod is gone (the collector's).

        Whether anything was mended.
        """
        key = attachment.key
        async with self._locks.hold(key):
            if self._inventory.attachments.get(key) != attachment:
                return False
            try:
                mended = await self._mended(attachment)
            except NetnsGone:
                return False
            except NodeNetError as exc:
                self._problems.put("attachment", exc.message, str(key))
                return False
        if mended:
            self._problems.clear("attachment", str(key))
            _log.warning(
                "repaired attachment",
                container_id=key.container_id,
                ifname=key.ifname,
                faults=mended,
            )
        return bool(mended)

    async def _mended(self, attachment: Attachment) -> list[str]:
        """Mend, and return what had been wrong. The host's end needs no namespace to be mended."""
        netns, unopened = None, NodeNetError("")
        try:
            netns = await self._opener.open(attachment.netns)
        except NodeNetError as exc:  # so it is also where it was recovered from the kernel
            unopened = exc
        with netns or nullcontext():
            faults = await self._workers.run(lambda nl: self._mend(nl, attachment, netns))
        if faults is None:
            raise unopened
        return faults

    def _mend(
        self, netlink: NetlinkSocket, attachment: Attachment, netns: NetnsHandle | None
    ) -> list[str] | None:
        """Read again under the lock; None where nothing can be done without the namespace."""
        faults = link_faults(netlink, attachment, self._tables)
        if not faults:
            return []
        if netlink.find_ifindex(attachment.host_ifname) is not None:
            ensure_host_end(netlink, attachment, self._tables)
            if netns:
                settle_carriers(netlink, netns, attachment)
        elif netns:
            attach(netlink, netns, attachment, self._tables, no_step)
        else:
            return None
        return faults

    async def _remove_strays(self, state: HostState) -> bool:
        """Remove pod routes of ours that lead to links of no attachment; whether there were any."""
        ours = {a.host_ifname for a in self._inventory.attachments.values()}
        live = {found.link.ifindex for found in state.links.values() if found.owner}
        known = {state.links[name].link.ifindex for name in ours if name in state.links}
        strays = [
            route
            for route in state.pod_routes
            if not route.unreachable
            and route.protocol == self._tables.protocol
            and not set(route.ifindexes) & (live | known)
        ]
        if strays:
            changes = await self._workers.run(lambda netlink: _remove(netlink, strays))
            _log.warning("removed stray routes", removed=changes.removed)
        return bool(strays)


def _remove(netlink: NetlinkSocket, strays: list[Route]) -> RouteChanges:
    netlink.send(*(remove_route(route) for route in strays))
    return RouteChanges(removed=[f"{route.network} table {route.table}" for route in strays])
