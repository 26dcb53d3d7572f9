"""Builders of the rtnetlink requests coil makes.

Numbers are those of linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h, veth.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.nodenet.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    attribute,
    attribute_text,
    attribute_u32,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_GETNEIGH = 30
RTM_NEWNETCONF = 80

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_LINKINFO = 1, 3, 4, 5, 18
IFLA_NET_NS_FD, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_EXT_MASK = 28, 20, 26, 27, 29
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFLA_LINK_NETNSID = 37
IFLA_STATS, IFLA_STATS64 = 7, 23
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE = 8, 1
RTEXT_FILTER_SKIP_STATS = 8
IFF_UP, IFF_LOOPBACK = 1, 8

IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 1, 4, 5, 6, 9, 15
RTA_PREFSRC, RTA_VIA = 7, 18
RTNH_F_DEAD, RTNH_F_LINKDOWN = 1, 16
NDA_DST = 1
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
RT_TABLE_UNSPEC, RT_TABLE_MAIN = 0, 254
RTM_F_FIB_MATCH = 0x2000
UNREACHABLE_METRIC = 65_535
"""Behind any pod's route to the same destination: a block may be of one address."""

FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL = 2, 6, 15, 21
FR_ACT_TO_TBL = 1

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_RTNEXTHOP = struct.Struct("=HBBi")
_PUT = NLM_F_CREATE | NLM_F_REPLACE
_GONE = frozenset({errno.ENODEV, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL})


def family(version: int) -> int:
    """AF_INET or AF_INET6 for 4 or 6."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def create_veth(
    *, host_ifname: str, host_mac: str, pod_ifname: str, pod_mac: str, mtu: int, netns_fd: int
) -> Message:
    """A pair whose peer is born in the pod's namespace: moving it later costs a grace period.

    The peer must be down: veth refuses to open an end whose other end is not there yet.
    """
    # A pair has no queues to speak of, yet the kernel makes as many as there are processors, each
    # with its objects in sysfs: a third of the time on two, most of it on many.
    queues = attribute_u32(IFLA_NUM_TX_QUEUES, 1) + attribute_u32(IFLA_NUM_RX_QUEUES, 1)
    peer = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + attribute_text(IFLA_IFNAME, pod_ifname)
        + attribute(IFLA_ADDRESS, mac_bytes(pod_mac))
        + attribute_u32(IFLA_MTU, mtu)
        + attribute_u32(IFLA_NET_NS_FD, netns_fd)
        + queues
    )
    info = attribute_text(IFLA_INFO_KIND, "veth") + attribute(
        IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)
    )
    body = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + attribute_text(IFLA_IFNAME, host_ifname)
        + attribute(IFLA_ADDRESS, mac_bytes(host_mac))
        + attribute_u32(IFLA_MTU, mtu)
        + queues
        + attribute(IFLA_LINKINFO, info)
    )
    flags = NLM_F_CREATE | NLM_F_EXCL
    return Message("create link", RTM_NEWLINK, body, flags, subject=host_ifname)


def no_auto_link_local(ifindex: int) -> Message:
    """Stop the kernel from making a link-local address, which it would test for duplicates.

    Tolerated to fail where the host or the link has no IPv6.
    """
    spec = attribute(
        socket.AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_MODE_NONE]))
    )
    body = _IFINFO.pack(0, 0, ifindex, 0, 0) + attribute(IFLA_AF_SPEC, spec)
    tolerated = frozenset({errno.EAFNOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP})
    return Message("set address generation", RTM_SETLINK, body, tolerated=tolerated)


def raise_link(ifindex: int, *, alias: str = "", mac: str = "") -> Message:
    """Set a link up, giving it an alias and a MAC address first when they are named."""
    body = _IFINFO.pack(0, 0, ifindex, IFF_UP, IFF_UP)
    if alias:
        body += attribute(IFLA_IFALIAS, alias.encode())
    if mac:
        body += attribute(IFLA_ADDRESS, mac_bytes(mac))
    return Message("set a link up", RTM_SETLINK, body)


def set_mtu(ifindex: int, mtu: int) -> Message:
    """Set a link's MTU, in bytes."""
    body = _IFINFO.pack(0, 0, ifindex, 0, 0) + attribute_u32(IFLA_MTU, mtu)
    return Message("set a link's MTU", RTM_SETLINK, body)


def set_down(ifindex: int) -> Message:
    """Set a link down."""
    return Message("set a link down", RTM_SETLINK, _IFINFO.pack(0, 0, ifindex, 0, IFF_UP))


def rename_link(ifindex: int, name: str) -> Message:
    """Rename a link of the host; works on one that is up since Linux 6.2."""
    body = _IFINFO.pack(0, 0, ifindex, 0, 0) + attribute_text(IFLA_IFNAME, name)
    return Message("rename a link to", RTM_SETLINK, body, subject=name)


def put_in_group(ifindex: int, group: int) -> Message:
    """Put a link in a device group; fine when the link is gone."""
    body = _IFINFO.pack(0, 0, ifindex, 0, 0) + attribute_u32(IFLA_GROUP, group)
    return Message("set a link's group", RTM_SETLINK, body, tolerated=_GONE)


def delete_group(group: int) -> Message:
    """Remove every link of a group with one grace period for all; fine when there is none."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute_u32(IFLA_GROUP, group)
    return Message("remove links", RTM_DELLINK, body, tolerated=_GONE)


def delete_link(ifindex: int) -> Message:
    """Remove a link; fine when it is gone."""
    body = _IFINFO.pack(0, 0, ifindex, 0, 0)
    return Message("remove a link", RTM_DELLINK, body, tolerated=_GONE)


def dump_links(kind: str = "") -> Message:
    """List links, of one kind (``veth``) or all."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    if kind:
        body += attribute(IFLA_LINKINFO, attribute_text(IFLA_INFO_KIND, kind))
    return Message("list links", RTM_GETLINK, body)


def get_link(*, ifindex: int = 0, ifname: str = "") -> Message:
    """Read one link by index or by name."""
    body = _IFINFO.pack(0, 0, ifindex, 0, 0)
    body += attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    if ifname:
        body += attribute_text(IFLA_IFNAME, ifname)
    return Message("read a link", RTM_GETLINK, body, tolerated=_GONE)


def put_address(ifindex: int, address: Address, prefixlen: int, *, scope: int) -> Message:
    """Add or replace an address, without duplicate address detection."""
    packed = address.packed
    body = (
        _IFADDR.pack(family(address.version), prefixlen, IFA_F_NODAD, scope, ifindex)
        + attribute(IFA_LOCAL, packed)
        + attribute(IFA_ADDRESS, packed)
        + attribute_u32(IFA_FLAGS, IFA_F_NODAD)
    )
    return Message("add address", RTM_NEWADDR, body, _PUT, subject=address)


def dump_addresses(version: int, ifindex: int = 0) -> Message:
    """List the addresses of one family, of one link or all."""
    body = _IFADDR.pack(family(version), 0, 0, 0, ifindex)
    return Message("list addresses", RTM_GETADDR, body, tolerated=_GONE)


def _route(kind: int, target: Network | Address, *, table: int, protocol: int, scope: int) -> bytes:
    """An address stands for the network of it alone (making that object costs more than this)."""
    if isinstance(target, IPv4Address | IPv6Address):
        packed, bits = target.packed, int(target.max_prefixlen)
    else:
        packed, bits = target.network_address.packed, int(target.prefixlen)
    small = table if table < 256 else RT_TABLE_UNSPEC
    return (
        _RTMSG.pack(family(target.version), bits, 0, 0, small, protocol, scope, kind, 0)
        + attribute(RTA_DST, packed)
        + attribute_u32(RTA_TABLE, table)
    )


def put_route(
    target: Network | Address,
    ifindex: int,
    *,
    table: int,
    protocol: int,
    gateway: Address | None = None,
    only_new: bool = False,
) -> Message:
    """Add or replace a unicast route; ``only_new`` makes it fail with EEXIST instead."""
    scope = RT_SCOPE_LINK if gateway is None and target.version == 4 else RT_SCOPE_UNIVERSE
    body = _route(RTN_UNICAST, target, table=table, protocol=protocol, scope=scope)
    body += attribute_u32(RTA_OIF, ifindex)
    if gateway is not None:
        body += attribute(RTA_GATEWAY, gateway.packed)
    flags = NLM_F_CREATE | NLM_F_EXCL if only_new else _PUT
    return Message("add route", RTM_NEWROUTE, body, flags, subject=target)


def put_ways(
    network: Network,
    gateways: Collection[Address],
    *,
    table: int,
    protocol: int,
    metric: int,
    source: Address | None,
) -> Message:
    """Add or replace a route by one or several equal gateways; the kernel finds their links.

    ``source``: the address that this machine's own packets get. A gateway that is no neighbour of
    any link makes it fail as a whole.
    """
    body = _route(RTN_UNICAST, network, table=table, protocol=protocol, scope=RT_SCOPE_UNIVERSE)
    body += attribute_u32(RTA_PRIORITY, metric)
    if source is not None:
        body += attribute(RTA_PREFSRC, source.packed)
    hops = [attribute(RTA_GATEWAY, gateway.packed) for gateway in gateways]
    if len(hops) == 1:
        body += hops[0]
    else:
        heads = (_RTNEXTHOP.pack(_RTNEXTHOP.size + len(hop), 0, 0, 0) for hop in hops)
        body += attribute(
            RTA_MULTIPATH, b"".join(head + hop for head, hop in zip(heads, hops, strict=True))
        )
    return Message("add route", RTM_NEWROUTE, body, _PUT, subject=network)


def put_unreachable(network: Network, *, table: int, protocol: int) -> Message:
    """Add or replace an unreachable route."""
    scope = RT_SCOPE_UNIVERSE
    body = _route(RTN_UNREACHABLE, network, table=table, protocol=protocol, scope=scope)
    body += attribute_u32(RTA_PRIORITY, UNREACHABLE_METRIC)
    return Message("add unreachable", RTM_NEWROUTE, body, _PUT, subject=network)


def delete_route(
    network: Network,
    *,
    table: int,
    protocol: int,
    ifindex: int = 0,
    gateway: Address | None = None,
    metric: int = 0,
    unreachable: bool = False,
) -> Message:
    """Remove exactly that route; fine when it is gone. Metric 0: any."""
    kind = RTN_UNREACHABLE if unreachable else RTN_UNICAST
    # RT_SCOPE_NOWHERE lets the kernel match any scope.
    body = _route(kind, network, table=table, protocol=protocol, scope=255)
    if ifindex:
        body += attribute_u32(RTA_OIF, ifindex)
    if gateway is not None:
        body += attribute(RTA_GATEWAY, gateway.packed)
    if metric:
        body += attribute_u32(RTA_PRIORITY, metric)
    return Message("remove route", RTM_DELROUTE, body, tolerated=_GONE, subject=network)


def dump_routes(version: int, table: int, *, protocol: int = 0, ifindex: int = 0) -> Message:
    """List the routes of one table, of one protocol or all, out of one link or all.

    A table that was never written to does not exist.
    """
    body = _RTMSG.pack(family(version), 0, 0, 0, RT_TABLE_UNSPEC, protocol, 0, 0, 0)
    body += attribute_u32(RTA_TABLE, table)
    if ifindex:
        body += attribute_u32(RTA_OIF, ifindex)
    return Message("list routes of table", RTM_GETROUTE, body, tolerated=_GONE, subject=table)


def dump_neighbours(version: int) -> Message:
    """List what is known of hosts on the links, of one family."""
    return Message("list neighbours", RTM_GETNEIGH, _NDMSG.pack(family(version), 0, 0, 0, 0))


def match_route(address: Address) -> Message:
    """Ask for the route entry that ``address`` would take, with all its next hops."""
    bits = address.max_prefixlen
    body = _RTMSG.pack(family(address.version), bits, 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    body += attribute(RTA_DST, address.packed)
    unreachable = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})
    return Message(
        "look up route to", RTM_GETROUTE, body, tolerated=unreachable | _GONE, subject=address
    )


def add_rule(version: int, *, priority: int, table: int, source: Address | None = None) -> Message:
    """Add a rule that looks up ``table``; fine when the same rule is there."""
    body = _rule(version, priority, table, source)
    there = frozenset({errno.EEXIST})
    return Message(
        "add rule", RTM_NEWRULE, body, NLM_F_CREATE | NLM_F_EXCL, there, subject=priority
    )


def delete_rule(
    version: int, *, priority: int, table: int, source: Address | None = None
) -> Message:
    """Remove a rule that add_rule() made; fine when there is none."""
    body = _rule(version, priority, table, source)
    return Message("remove rule", RTM_DELRULE, body, tolerated=_GONE, subject=priority)


def _rule(version: int, priority: int, table: int, source: Address | None) -> bytes:
    bits = 0 if source is None else source.max_prefixlen
    body = _RTMSG.pack(family(version), 0, bits, 0, RT_TABLE_UNSPEC, 0, 0, FR_ACT_TO_TBL, 0)
    body += attribute_u32(FRA_PRIORITY, priority) + attribute_u32(FRA_TABLE, table)
    return body if source is None else body + attribute(FRA_SRC, source.packed)


def dump_rules(version: int) -> Message:
    """List the rules of one family."""
    body = _RTMSG.pack(family(version), 0, 0, 0, 0, 0, 0, 0, 0)
    return Message("list rules", RTM_GETRULE, body)


def mac_bytes(mac: str) -> bytes:
    """``aa:bb:cc:dd:ee:ff`` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))
