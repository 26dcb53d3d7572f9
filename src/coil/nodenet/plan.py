"""Constants of the node's network and the names coil gives; pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.domain.attachment import Attachment, AttachmentKey, Pod
from coil.domain.errors import InvalidName
from coil.domain.names import (
    ContainerId,
    IfName,
    PoolName,
    parse_container_id,
    parse_ifname,
    parse_pool_name,
)

GATEWAYS: dict[int, IPv4Address | IPv6Address] = {
    4: IPv4Address("169.254.1.1"),
    6: IPv6Address("fe80::1"),
}
HOST_MAC = "ee:ee:ee:ee:ee:ee"
"""Of every host end: pods know their gateway without asking, and it never changes."""
DEFAULT_ROUTES: dict[int, IPv4Network | IPv6Network] = {
    4: IPv4Network("0.0.0.0/0"),
    6: IPv6Network("::/0"),
}
_ALIAS_TAG = "coil"
_ALIAS_BYTES = 255  # IFALIASZ less the NUL (linux/if.h)
_NAME_DIGITS = 11


@dataclass(frozen=True, slots=True)
class Tables:
    """Where routes go; the defaults are what operators and routing daemons know."""

    pod_table: int = 116
    rule_priority: int = 2000
    export_table: int = 119
    protocol: int = 30


@dataclass(frozen=True, slots=True)
class LinkOwner:
    """What a host link's alias says."""

    key: AttachmentKey
    pool: PoolName
    pod: Pod


def host_ifname(key: AttachmentKey) -> IfName:
    """The host end's name: found again from the attachment alone."""
    digest = hashlib.sha256(str(key).encode()).hexdigest()
    return IfName("coil" + digest[:_NAME_DIGITS])


def calico_ifname(pod: Pod) -> IfName:
    """The host end's name as Calico's policy engine expects it for a pod."""
    digest = hashlib.sha1(f"{pod.namespace}.{pod.name}".encode(), usedforsecurity=False).hexdigest()
    return IfName("veth" + digest[:_NAME_DIGITS])


def pod_mac(key: AttachmentKey) -> str:
    """A MAC for the pod's end, made from the attachment: locally administered, unicast."""
    digest = hashlib.sha256(b"mac " + str(key).encode()).digest()
    return bytes([(digest[0] & 0xFC) | 0x02, *digest[1:6]]).hex(":")


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC (RFC 4291, appendix A: modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface_id = bytes([octets[0] ^ 0x02, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface_id)


def alias_of(attachment: Attachment) -> str:
    """What the host end's alias says of its attachment; the pod's name only where it fits."""
    key = attachment.key
    alias = f"{_ALIAS_TAG} {key.container_id} {key.ifname} {attachment.block.pool}"
    named = f"{alias} {attachment.pod}" if attachment.pod.name else alias
    return named if len(named.encode()) <= _ALIAS_BYTES else alias


def find_owner(alias: str) -> LinkOwner | None:
    """Read an alias; None when it is not one of ours."""
    words = alias.split(" ")
    if len(words) not in (4, 5) or words[0] != _ALIAS_TAG:
        return None
    try:
        container_id: ContainerId = parse_container_id(words[1])
        key = AttachmentKey(container_id, parse_ifname(words[2]))
        pool = parse_pool_name(words[3])
    except InvalidName:
        return None
    namespace, _, name = words[4].partition("/") if len(words) == 5 else ("", "", "")
    return LinkOwner(key, pool, Pod(namespace, name))


def host_network(address: IPv4Address | IPv6Address) -> IPv4Network | IPv6Network:
    """The /32 or /128 of one address."""
    if isinstance(address, IPv4Address):
        return IPv4Network((address, 32))
    return IPv6Network((address, 128))
