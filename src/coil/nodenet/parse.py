"""What the kernel lists, as frozen dataclasses."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

from coil.nodenet import messages as m
from coil.nodenet.netlink import attributes, find_attribute

IFINFO_SIZE = 16
IFADDR_SIZE = 8
NEIGHBOUR_SIZE = 12
_RTMSG_SIZE = 12
_IPV4_LINK_LOCAL = bytes([169, 254])  # RFC 3927
_RTNEXTHOP_SIZE = 8
_DOWN = m.RTNH_F_DEAD | m.RTNH_F_LINKDOWN


@dataclass(frozen=True, slots=True)
class Link:
    """A network device as its namespace sees it."""

    ifindex: int
    name: str
    up: bool
    loopback: bool
    mtu: int
    mac: str
    alias: str
    kind: str
    group: int
    peer_ifindex: int
    """Index of the other end in its own namespace (0: none)."""
    peer_netnsid: int
    """Id of the other end's namespace as this one knows it (-1: the same)."""


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of a link."""

    ifindex: int
    address: IPv4Address | IPv6Address
    prefixlen: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of one of our tables."""

    network: IPv4Network | IPv6Network
    table: int
    protocol: int
    unreachable: bool
    ifindexes: tuple[int, ...]
    """Outgoing links: one, none, or several for a multipath route."""
    gateway: IPv4Address | IPv6Address | None
    metric: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """A router on one of the host's links."""

    address: IPv4Address | IPv6Address
    ifindex: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule."""

    version: int
    priority: int
    table: int
    plain: bool
    """Whether it applies to all packets (no selector)."""


def parse_link(payload: bytes) -> Link:
    """Read an RTM_NEWLINK or RTM_DELLINK payload."""
    ifindex, flags = struct.unpack_from("=iI", payload, 4)
    found = attributes(payload, IFINFO_SIZE)
    info = attributes(found.get(m.IFLA_LINKINFO, b""))
    return Link(
        ifindex=ifindex,
        name=_text(found.get(m.IFLA_IFNAME)),
        up=bool(flags & m.IFF_UP),
        loopback=bool(flags & m.IFF_LOOPBACK),
        mtu=_u32(found.get(m.IFLA_MTU)),
        mac=found.get(m.IFLA_ADDRESS, b"").hex(":"),
        alias=_text(found.get(m.IFLA_IFALIAS)),
        kind=_text(info.get(m.IFLA_INFO_KIND)),
        group=_u32(found.get(m.IFLA_GROUP)),
        peer_ifindex=_u32(found.get(m.IFLA_LINK)),
        peer_netnsid=_s32(found.get(m.IFLA_LINK_NETNSID), -1),
    )


def link_alias(payload: bytes) -> str:
    """Only the alias of an RTM_NEWLINK or RTM_DELLINK payload: events come in hundreds."""
    return _text(find_attribute(payload, IFINFO_SIZE, m.IFLA_IFALIAS))


def parse_address(payload: bytes) -> LinkAddress:
    """Read an RTM_NEWADDR or RTM_DELADDR payload."""
    prefixlen = payload[1]
    (ifindex,) = struct.unpack_from("=i", payload, 4)
    found = attributes(payload, IFADDR_SIZE)
    packed = found.get(m.IFA_LOCAL) or found[m.IFA_ADDRESS]
    return LinkAddress(ifindex, ip_address(packed), prefixlen)


def may_be_global(payload: bytes) -> bool:
    """Whether others may reach the address of an RTM_NEWADDR payload; each pod's link has others.

    An IPv6 address has the scope that it means; one of IPv4 has what it was added with.
    """
    if payload[0] != m.family(4):
        return payload[3] == m.RT_SCOPE_UNIVERSE
    local = find_attribute(payload, IFADDR_SIZE, m.IFA_LOCAL)
    return local is None or local[:2] != _IPV4_LINK_LOCAL


def is_permanent(payload: bytes) -> bool:
    """Whether the address of an RTM_NEWADDR payload is kept until somebody removes it."""
    return bool(payload[2] & m.IFA_F_PERMANENT)


def parse_route(payload: bytes) -> Route:
    """Read an RTM_NEWROUTE or RTM_DELROUTE payload."""
    af, bits, _src, _tos, table, protocol, _scope, kind = struct.unpack_from("=8B", payload)
    found = attributes(payload, _RTMSG_SIZE)
    # Not ip_network(): it tries one family after the other, and tables are long.
    size, network = (4, IPv4Network) if af == m.family(4) else (16, IPv6Network)
    destination = found.get(m.RTA_DST, bytes(size))
    gateway = found.get(m.RTA_GATEWAY)
    oif = found.get(m.RTA_OIF)
    hops = tuple(_next_hops(found.get(m.RTA_MULTIPATH, b"")))
    return Route(
        network=network((destination, bits)),
        table=_u32(found.get(m.RTA_TABLE)) or table,
        protocol=protocol,
        unreachable=kind == m.RTN_UNREACHABLE,
        ifindexes=(_u32(oif),) if oif else hops,
        gateway=ip_address(gateway) if gateway else None,
        metric=_u32(found.get(m.RTA_PRIORITY)),
    )


def parse_gateways(payload: bytes) -> frozenset[IPv4Address | IPv6Address]:
    """All next hops of an RTM_NEWROUTE payload."""
    found = attributes(payload, _RTMSG_SIZE)
    hops = [found, *_read_hop_attributes(found.get(m.RTA_MULTIPATH, b""))]
    return frozenset(ip_address(hop[m.RTA_GATEWAY]) for hop in hops if m.RTA_GATEWAY in hop)


def find_source(payload: bytes) -> IPv4Address | IPv6Address | None:
    """The source address that an RTM_NEWROUTE payload names."""
    packed = find_attribute(payload, _RTMSG_SIZE, m.RTA_PREFSRC)
    return ip_address(packed) if packed else None


def parse_protocol(payload: bytes) -> int:
    """Who made the route of an RTM_NEWROUTE payload: its rtm_protocol (rtnetlink(7))."""
    return payload[5]


def parse_live_gateways(payload: bytes) -> frozenset[Gateway]:
    """The gateways of an RTM_NEWROUTE payload that are behind links that carry."""
    (flags,) = struct.unpack_from("=I", payload, 8)
    if payload[7] != m.RTN_UNICAST:
        return frozenset()
    found = attributes(payload, _RTMSG_SIZE)
    several = found.get(m.RTA_MULTIPATH)
    if several is None:
        hops = [(found, _u32(found.get(m.RTA_OIF)), flags)]
    else:
        hops = [
            (attributes(several[:end], start), ifindex, hop_flags)
            for start, end, ifindex, hop_flags in _split_next_hops(several)
        ]
    return frozenset(
        Gateway(ip_address(packed), ifindex)
        for hop, ifindex, hop_flags in hops
        if not hop_flags & _DOWN and (packed := _gateway_in(hop))
    )


def _gateway_in(hop: dict[int, bytes]) -> bytes | None:
    """Struct rtvia (linux/rtnetlink.h), of a gateway of the other family, begins with that."""
    via = hop.get(m.RTA_VIA)
    return via[2:] if via else hop.get(m.RTA_GATEWAY)


def parse_neighbour(payload: bytes) -> tuple[Gateway, int]:
    """Read an RTM_NEWNEIGH payload: who, and the state of knowing where (NUD_*)."""
    ifindex, state = struct.unpack_from("=iH", payload, 4)  # struct ndmsg of linux/neighbour.h
    packed = attributes(payload, NEIGHBOUR_SIZE)[m.NDA_DST]
    return Gateway(ip_address(packed), ifindex), state


def is_direct(payload: bytes) -> bool:
    """Whether an RTM_NEWROUTE payload is a route to neighbours: no router is on the way."""
    found = attributes(payload, _RTMSG_SIZE)
    routers = {m.RTA_GATEWAY, m.RTA_VIA, m.RTA_MULTIPATH} & found.keys()
    return payload[7] == m.RTN_UNICAST and m.RTA_OIF in found and not routers


def parse_rule(payload: bytes) -> Rule:
    """Read an RTM_NEWRULE or RTM_DELRULE payload."""
    af, dst_bits, src_bits, tos, table = struct.unpack_from("=5B", payload)
    found = attributes(payload, _RTMSG_SIZE)
    selectors = {1, 2, 3, 10, 17}  # FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_FWMARK, FRA_OIFNAME
    return Rule(
        version=4 if af == m.family(4) else 6,
        priority=_u32(found.get(m.FRA_PRIORITY)),
        table=_u32(found.get(m.FRA_TABLE)) or table,
        plain=not (dst_bits or src_bits or tos or selectors & found.keys()),
    )


def _next_hops(data: bytes) -> Iterator[int]:
    return (ifindex for _start, _end, ifindex, _flags in _split_next_hops(data))


def _read_hop_attributes(data: bytes) -> Iterator[dict[int, bytes]]:
    for start, end, _ifindex, _flags in _split_next_hops(data):
        yield attributes(data[:end], start)


def _split_next_hops(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Where the attributes of each begin and end, its link, its flags.

    Struct rtnexthop of linux/rtnetlink.h.
    """
    offset = 0
    while offset + _RTNEXTHOP_SIZE <= len(data):
        length, flags, _hops, ifindex = struct.unpack_from("=HBBi", data, offset)
        yield offset + _RTNEXTHOP_SIZE, offset + length, ifindex, flags
        offset += (max(length, _RTNEXTHOP_SIZE) + 3) & ~3


def _text(data: bytes | None) -> str:
    return (data or b"").split(b"\0", 1)[0].decode(errors="replace")


def _u32(data: bytes | None) -> int:
    return int.from_bytes(data[:4], sys.byteorder) if data else 0


def _s32(data: bytes | None, absent: int) -> int:
    return int.from_bytes(data[:4], sys.byteorder, signed=True) if data else absent
