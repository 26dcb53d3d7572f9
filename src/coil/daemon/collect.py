"""Removes attachments that nobody will DEL: by the runtime's GC, or because the pod is gone.

Nothing is freed on inference alone. Housekeeping needs two witnesses (no link in the host, not the
same namespace behind the path), seen in two passes, never on the first after start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum

import structlog

from coil.daemon.attach import Attacher, fields_of
from coil.daemon.inventory import Inventory
from coil.daemon.locks import AttachmentLocks
from coil.daemon.opener import NetnsOpener
from coil.daemon.workers import Workers
from coil.domain.attachment import Attachment, AttachmentKey
from coil.domain.errors import CoilError
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.observe import list_owners
from coil.process.beat import Beat
from coil.process.together import all_of

_log = structlog.get_logger()


class GcMode(Enum):
    """What collectors may do."""

    ON = "on"
    OFF = "off"
    DRY_RUN = "dry-run"
    """Say what would be removed, remove nothing."""


class Collector:
    """The two ways an attachment ends without a DEL."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        attacher: Attacher,
        workers: Workers,
        opener: NetnsOpener,
        locks: AttachmentLocks,
        mode: GcMode,
        beat: Beat,
        all_linked: Callable[[], bool],
    ) -> None:
        """``all_linked``: whether somebody has just seen the links of all attachments."""
        self._inventory = inventory
        self._attacher = attacher
        self._workers = workers
        self._opener = opener
        self._locks = locks
        self._mode = mode
        self._beat = beat
        self._all_linked = all_linked
        self._suspects: frozenset[Attachment] = frozenset()

    async def collect_invalid(self, network: str, valid: Iterable[AttachmentKey]) -> list[str]:
        """CNI GC: remove this network's attachments that are not in ``valid``.

        Only those that were whole when the call came, and are not being worked on: an ADD that
        runs beside a GC is not in the runtime's list yet. Returns their keys. Errors of single
        ones don't stop the others; they are raised together at the end.
        """
        keep = frozenset(valid)
        doomed = [
            attachment
            for attachment in self._inventory.attachments.values()
            if attachment.network == network
            and attachment.key not in keep
            and not self._locks.is_held(attachment.key)
        ]
        return await self._remove(doomed, why="not in the runtime's list")

    async def run(self) -> None:
        """Housekeeping for ever."""
        while True:
            await self._beat.wait()
            try:
                await self.collect_gone()
            except CoilError as exc:
                _log.error("housekeeping failed", reason=exc.message)

    async def collect_gone(self) -> list[str]:
        """One pass of housekeeping: remove what this pass and the one before found gone.

        What is being worked on is left for a later pass.
        """
        unlinked = [] if self._all_linked() else await self._find_unlinked()
        are_gone = await all_of(self._opener.is_gone(each.netns) for each in unlinked)
        gone = [each for each, is_gone in zip(unlinked, are_gone, strict=True) if is_gone]
        doomed = [
            attachment
            for attachment in gone
            if attachment in self._suspects and not self._locks.is_held(attachment.key)
        ]
        self._suspects = frozenset(gone)
        return await self._remove(doomed, why="pod is gone")

    async def _find_unlinked(self) -> list[Attachment]:
        candidates = list(self._inventory.attachments.values())
        return await self._workers.run(lambda netlink: _without_link(netlink, candidates))

    async def _remove(self, doomed: Iterable[Attachment], *, why: str) -> list[str]:
        doomed = list(doomed)
        if self._mode is not GcMode.ON:
            for attachment in doomed:
                _log.info("would collect", mode=self._mode.value, why=why, **fields_of(attachment))
            return []
        failed: list[CoilError] = []
        async with asyncio.TaskGroup() as group:  # together, so that removals share a request
            tasks = [group.create_task(self._remove_one(a, why, failed)) for a in doomed]
        if failed:
            raise CoilError(f"{len(failed)} attachments not removed; first: {failed[0].message}")
        return [str(a.key) for a, task in zip(doomed, tasks, strict=True) if task.result()]

    async def _remove_one(self, attachment: Attachment, why: str, failed: list[CoilError]) -> bool:
        try:
            removed = await self._attacher.delete_if_same(attachment)
        except CoilError as exc:
            failed.append(exc)
            return False
        if removed:
            _log.warning("collected", why=why, **fields_of(attachment))
        return removed


def _without_link(netlink: NetlinkSocket, candidates: list[Attachment]) -> list[Attachment]:
    nameless = [each for each in candidates if netlink.find_ifindex(each.host_ifname) is None]
    linked = list_owners(netlink) if nameless else set()  # a link can be renamed
    return [attachment for attachment in nameless if attachment.key not in linked]
