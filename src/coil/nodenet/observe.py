"""What the host's kernel has of ours, read in one go."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address

from coil.domain.attachment import AttachmentKey
from coil.nodenet import messages as m
from coil.nodenet.messages import Network
from coil.nodenet.netlink import Message, NetlinkSocket, without_attributes
from coil.nodenet.parse import (
    IFADDR_SIZE,
    IFINFO_SIZE,
    Link,
    Route,
    Rule,
    is_direct,
    is_permanent,
    link_alias,
    may_be_global,
    parse_address,
    parse_link,
    parse_route,
    parse_rule,
)
from coil.nodenet.plan import LinkOwner, Tables, find_owner
from coil.nodenet.sysctl import forwarding, ip_versions

_RESTLESS = frozenset({m.IFLA_STATS, m.IFLA_STATS64, m.IFLA_AF_SPEC})
"""Counters, and what the families know of a link: among that a time which the kernel draws anew at
random every five minutes (``reachable_time``), and nothing that ``parse_link`` reads."""
_AGE = frozenset({m.IFA_CACHEINFO})
_NO_LINK = 0x7FFFFFFF
"""An index that the kernel has given to no link yet."""


@dataclass(frozen=True, slots=True)
class HostLink:
    """A host end: the link, whose it is, and its addresses."""

    link: Link
    owner: LinkOwner | None
    addresses: frozenset[IPv4Address | IPv6Address]


@dataclass(frozen=True, slots=True)
class HostState:
    """One reading of the host's namespace."""

    links: dict[str, HostLink]
    """Every veth end by name."""
    pod_routes: frozenset[Route]
    export_routes: frozenset[Route]
    """Ours."""
    rules: frozenset[Rule]

    def networks_behind(self) -> dict[int, set[Network]]:
        """By a link's index, what the pod table sends out by it and by no other."""
        found: dict[int, set[Network]] = defaultdict(set)
        for route in self.pod_routes:
            if len(route.ifindexes) == 1 and not route.unreachable:
                found[route.ifindexes[0]].add(route.network)
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """What the kernel told of a namespace: payloads nobody has looked into yet."""

    versions: frozenset[int]
    """Of IP, that links can have."""
    forwarded: frozenset[int]
    """Of IP, that packets are forwarded of."""
    links: list[bytes]
    """All veth ends."""
    addresses: list[bytes]
    pod_routes: list[bytes]
    export_routes: list[bytes]
    rules: list[bytes]

    def digest(self) -> bytes:
        """The same as of another reading: the same state of the host.

        Looking into a reading costs several times as much, and touches much more memory.
        """
        links = [without_attributes(each, IFINFO_SIZE, _RESTLESS) for each in self.links]
        addresses = [
            # One leased by DHCP or a router is older each second.
            each if is_permanent(each) else without_attributes(each, IFADDR_SIZE, _AGE)
            for each in self.addresses
        ]
        found = blake2b(repr((sorted(self.versions), sorted(self.forwarded))).encode())
        for payloads in (links, addresses, self.pod_routes, self.export_routes, self.rules):
            found.update(repr(list(map(len, payloads))).encode())
            found.update(b"".join(payloads))
        return found.digest()


def observe(netlink: NetlinkSocket, tables: Tables) -> HostState:
    """Read links, addresses, our tables and the rules. Raises DumpInterrupted, KernelRefused."""
    return interpret(read(netlink, tables))


def observe_link(netlink: NetlinkSocket, tables: Tables, ifname: str) -> HostState:
    """As ``observe``, but of no other link, nor of what leads to others."""
    return interpret(read(netlink, tables, netlink.find_ifindex(ifname) or _NO_LINK))


def read(netlink: NetlinkSocket, tables: Tables, ifindex: int = 0) -> Reading:
    """As ``observe``, of one link or all, for ``interpret``."""
    versions = ip_versions()

    def listed(*requests: Message) -> list[bytes]:
        return [payload for request in requests for _kind, payload in netlink.dump(request)]

    pod, export = tables.pod_table, tables.export_table
    # Before the links: whoever finds a route without its link may take the route for a stray, and
    # pods come meanwhile. A pod's link says whose it is before a route leads to it.
    pod_routes = listed(*(m.dump_routes(each, pod, ifindex=ifindex) for each in versions))
    link = netlink.get(m.get_link(ifindex=ifindex)) if ifindex else None
    links = listed(*(() if ifindex else (m.dump_links("veth"),)))
    return Reading(
        versions=versions,
        forwarded=frozenset(version for version in versions if forwarding(version)),
        links=[link] if link else links,
        addresses=listed(*(m.dump_addresses(version, ifindex) for version in versions)),
        pod_routes=pod_routes,
        export_routes=listed(
            *(m.dump_routes(each, export, protocol=tables.protocol) for each in versions)
        ),
        rules=_read_rules(netlink, versions),
    )


def interpret(reading: Reading) -> HostState:
    """See ``HostState``."""
    addresses: dict[int, set[IPv4Address | IPv6Address]] = defaultdict(set)
    for payload in reading.addresses:
        address = parse_address(payload)
        addresses[address.ifindex].add(address.address)
    links = {
        link.name: HostLink(link, find_owner(link.alias), frozenset(addresses[link.ifindex]))
        for link in map(parse_link, reading.links)
        if link.kind == "veth"
    }
    return HostState(
        links=links,
        pod_routes=frozenset(map(parse_route, reading.pod_routes)),
        export_routes=frozenset(map(parse_route, reading.export_routes)),
        rules=frozenset(map(parse_rule, reading.rules)),
    )


def list_rules(netlink: NetlinkSocket) -> frozenset[Rule]:
    """The rules of all families there are."""
    return frozenset(map(parse_rule, _read_rules(netlink, ip_versions())))


def _read_rules(netlink: NetlinkSocket, versions: Iterable[int]) -> list[bytes]:
    return [
        payload
        for version in versions
        for kind, payload in netlink.dump(m.dump_rules(version))
        if kind == m.RTM_NEWRULE
    ]


def find_link_to(netlink: NetlinkSocket, neighbour: IPv4Address | IPv6Address) -> int | None:
    """Index of the link ``neighbour`` is on; None when a router is on the way, or it is ours."""
    payload = netlink.get(m.match_route(neighbour))
    if payload is None or not is_direct(payload):
        return None
    return parse_route(payload).ifindexes[0]


def list_veths(netlink: NetlinkSocket) -> list[Link]:
    """All veth ends of the socket's namespace."""
    links = (parse_link(payload) for _kind, payload in netlink.dump(m.dump_links("veth")))
    return [link for link in links if link.kind == "veth"]


def list_owners(netlink: NetlinkSocket) -> set[AttachmentKey]:
    """The attachments that have a veth end in the socket's namespace."""
    payloads = (payload for _kind, payload in netlink.dump(m.dump_links("veth")))
    owners = (find_owner(link_alias(payload)) for payload in payloads)
    return {owner.key for owner in owners if owner}


def find_links_of(netlink: NetlinkSocket, keys: frozenset[AttachmentKey]) -> list[Link]:
    """The veth ends whose alias names one of ``keys``, whatever they are called now."""
    owned = ((link, find_owner(link.alias)) for link in list_veths(netlink))
    return [link for link, owner in owned if owner and owner.key in keys]


def list_routes(netlink: NetlinkSocket, table: int) -> list[Route]:
    """The routes of one table, of all families there are."""
    routes = (
        parse_route(payload)
        for version in ip_versions()
        for _kind, payload in netlink.dump(m.dump_routes(version, table))
    )
    return [route for route in routes if route.table == table]


def uplink_mtu(netlink: NetlinkSocket) -> int:
    """The smallest MTU of the links that default routes leave by.

    Without a default route: the smallest of all links that are up and are not loopback or
    containers'; without any of these, 1500.
    """
    indexes: set[int] = set()
    versions = ip_versions()
    for probe in (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")):  # RFC 5737, RFC 3849
        payload = probe.version in versions and netlink.get(m.match_route(probe))
        if payload:
            indexes.update(parse_route(payload).ifindexes)
    uplinks = [link for link in _own_links(netlink, indexes) if not link.loopback]
    if not uplinks:
        payloads = (payload for _kind, payload in netlink.dump(m.dump_links()))
        links = [parse_link(each) for each in payloads if not find_owner(link_alias(each))]
        uplinks = [link for link in links if link.up and not link.loopback]
    return min((link.mtu for link in uplinks), default=1500)


def _own_links(netlink: NetlinkSocket, indexes: Iterable[int]) -> list[Link]:
    """Those of the links with these indexes that are the host's, not containers'.

    A list of all would be that of the containers, with some of the host's among them.
    """
    payloads = (netlink.get(m.get_link(ifindex=ifindex)) for ifindex in sorted(indexes))
    return [parse_link(each) for each in payloads if each and not find_owner(link_alias(each))]


def host_addresses(netlink: NetlinkSocket) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses others can reach this host by: global ones, of no container, sorted.

    Of links that are up: kube-proxy keeps those of all services on one that is not.
    """
    listed = (
        parse_address(payload)
        for version in ip_versions()
        for _kind, payload in netlink.dump(m.dump_addresses(version))
        if may_be_global(payload)
    )
    entries = [e for e in listed if not (e.address.is_link_local or e.address.is_loopback)]
    links = _own_links(netlink, {entry.ifindex for entry in entries})
    up = {link.ifindex for link in links if link.up}
    found = {entry.address for entry in entries if entry.ifindex in up}
    return tuple(sorted(found, key=lambda address: (address.version, int(address))))


def loopback_index() -> int:
    """Index of ``lo`` in the caller's namespace: the link block routes are exported on."""
    return socket.if_nametoindex("lo")
