"""What a node says of itself in the store, and who may say it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from coil.domain.block import BlockId
from coil.domain.names import NodeName, RackName


@dataclass(frozen=True, slots=True)
class Holder:
    """Which process holds a node's name: two that differ are never the same coild."""

    machine: str
    """Stays through reboots: machine-id(5). Machines that were cloned may have the same."""
    boot: str
    """Another one after each boot."""
    place: str
    """Network namespace and state directory: tells coilds of one machine apart."""


@dataclass(frozen=True, slots=True)
class BlockReport:
    """A block that a node believes to own."""

    id: BlockId
    used: int
    """Addresses held by attachments."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as it was when it last wrote its record."""

    name: NodeName
    holder: Holder
    version: str
    rack: RackName | None
    addresses: tuple[IPv4Address | IPv6Address, ...]
    """Of the host, where others reach it; no pod's."""
    seen: int
    """When it was written: seconds since 1970, by the node's clock."""
    blocks: tuple[BlockReport, ...] | None = None
    """What it owned by its own knowledge when it wrote; None when it did not say."""

    def says_more_than(self, other: NodeRecord) -> bool:
        """Whether it tells anything beside what changes all the time (when, which blocks)."""
        return replace(self, seen=other.seen, blocks=other.blocks) != other


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A record, and whether its node has shown in time that it lives."""

    record: NodeRecord
    alive: bool


def may_hold(holder: Holder, recorded: Holder | None, living: Holder | None, *, held: bool) -> bool:
    """Whether ``holder`` may have a node's name.

    ``recorded`` has it in the node's record; ``living`` has shown that it lives, None when nobody
    has lately. A name stays with its machine until an operator or the controller releases it: a
    machine that is cut off may come back with all its pods. On one machine a new boot takes over
    from one that has fallen silent (which the store sees), and another coild of the same boot
    waits until the first is known to have ended. ``held``: this process has had the name; then
    another boot is no reboot, but another machine with the same id.
    """
    if recorded is not None and recorded.machine != holder.machine:
        return False
    if held and any(other and other.boot != holder.boot for other in (recorded, living)):
        return False
    return living is None or living.boot != holder.boot or living.place == holder.place
