"""Attachments: one interface of one container. The key of all ADD, DEL and CHECK state."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from coil.domain.block import BlockId
from coil.domain.names import ContainerId, IfName


@dataclass(frozen=True, slots=True, order=True)
class AttachmentKey:
    """(container id, ifname). Never the pod's name: two sandboxes of one pod may overlap."""

    container_id: ContainerId
    ifname: IfName

    def __str__(self) -> str:
        return f"{self.container_id}/{self.ifname}"


@dataclass(frozen=True, slots=True)
class Pod:
    """What the runtime said of the pod, for people only; any part may be empty."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else ""


@dataclass(frozen=True, slots=True)
class Netns:
    """A pod's network namespace: the path the runtime gave and the inode found behind it.

    The inode tells a namespace from a later one under the same path (0: not known).
    """

    path: str
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Attachment:
    """Everything that must be true of one attachment; the journal keeps it, the kernel shows it."""

    key: AttachmentKey
    block: BlockId
    offset: int
    addresses: tuple[IPv4Address | IPv6Address, ...]
    netns: Netns
    host_ifname: IfName
    mac: str
    """Of the pod's end, ``aa:bb:cc:dd:ee:ff``."""
    mtu: int
    created_at: int
    """Unix time, seconds."""
    network: str
    """Name of the CNI network (netconf ``name``); a GC speaks for one network only. Empty: lost."""
    pod: Pod = Pod()
