"""Who this coild is, and its sign of life in the store."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from coil import __version__
from coil.daemon.inventory import Inventory
from coil.daemon.rack import Rack
from coil.daemon.settings import Settings
from coil.daemon.workers import Workers
from coil.domain.node import BlockReport, Holder, NodeRecord
from coil.nodenet.observe import host_addresses
from coil.process import clock
from coil.store.contract import NodeStore

_log = structlog.get_logger()

_MACHINE_ID = Path("/etc/machine-id")


class Presence:
    """Holds this node's name in the store."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: NodeStore,
        workers: Workers,
        inventory: Inventory,
        rack: Rack,
    ) -> None:
        self._settings = settings
        self._store = store
        self._workers = workers
        self._inventory = inventory
        self._rack = rack
        self._holder = _holder(settings)

    async def hold_name(self) -> None:
        """Say that this node lives. Raises NodeNameTaken, StoreError."""
        addresses = await self._workers.run(host_addresses)
        record = NodeRecord(
            name=self._settings.node_name,
            holder=self._holder,
            version=__version__,
            rack=await self._rack.get(),
            addresses=addresses,
            seen=int(time.time()),
            blocks=self._reports(),
        )
        await self._store.hold_name(record, self._settings.lease)

    def _reports(self) -> tuple[BlockReport, ...]:
        """What this node would defend as its own: not what it is giving back."""
        blocks = sorted(
            self._inventory.blocks.values(), key=lambda owned: (owned.block.pool, owned.block.index)
        )
        return tuple(
            BlockReport(owned.block.id, owned.allocator.used_count)
            for owned in blocks
            if not owned.releasing
        )


def _holder(settings: Settings) -> Holder:
    boot = clock.boot_id()
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    # A machine without an id of its own is another one after each boot. An embedded store keeps no
    # names.
    if not machine and not settings.store.startswith("sqlite:"):
        _log.warning(
            "no machine-id: after a reboot this node's name will be refused",
            path=str(_MACHINE_ID),
            reason="make one by systemd-machine-id-setup; into a container, mount the host's file",
        )
    netns = Path("/proc/self/ns/net").stat().st_ino
    return Holder(machine or boot, boot, f"netns {netns}, {settings.state_dir}")
