"""Routes that a routing daemon has learnt, in the kernel: by one gateway or several equal ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.nodenet import messages as m
from coil.nodenet.netlink import Message, NetlinkSocket
from coil.nodenet.observe import loopback_index
from coil.nodenet.parse import find_source, parse_address, parse_gateways, parse_route
from coil.nodenet.sysctl import ip_versions

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_METRIC = 32
"""As BIRD's. What an administrator sets by hand has 0 in IPv4 and goes before; a route of the same
metric would be replaced, whoever made it."""
_AT_ONCE = 500
"""Requests in one system call: they, and refusals of all of them, must fit into the socket's
buffers (208 kB by default)."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How a network is reached."""

    gateways: frozenset[Address]
    source: Address | None = None
    """What this machine's own packets have as their source address."""


def list_ways(netlink: NetlinkSocket, *, table: int, protocol: int) -> dict[Network, Ways]:
    """The routes of one protocol in a table. Raises DumpInterrupted, KernelRefused."""
    payloads = (
        payload
        for version in ip_versions()
        for _kind, payload in netlink.dump(m.dump_routes(version, table, protocol=protocol))
    )
    found = ((parse_route(payload), payload) for payload in payloads)
    return {
        route.network: Ways(parse_gateways(payload), find_source(payload))
        for route, payload in found
        if (route.table, route.protocol) == (table, protocol)
    }


@dataclass(frozen=True, slots=True)
class WayChanges:
    """What a sync changed, and what the kernel refused: a reason for each network."""

    added: int
    removed: int
    refused: Mapping[Network, str]


def sync_ways(
    netlink: NetlinkSocket,
    wanted: Mapping[Network, Ways],
    *,
    table: int,
    protocol: int,
    remove: bool = True,
) -> WayChanges:
    """Make the routes of ``protocol`` in ``table`` equal to ``wanted``. Idempotent.

    A route that leads elsewhere is replaced in one step. Routes of other protocols are left alone.
    """
    there = list_ways(netlink, table=table, protocol=protocol)
    put = [network for network, ways in wanted.items() if there.get(network) != ways]
    gone = [network for network in there if network not in wanted] if remove else []
    messages = [
        *(m.delete_route(network, table=table, protocol=protocol) for network in gone),
        *(_put(network, wanted[network], table, protocol) for network in put),
    ]
    outcomes = [
        outcome
        for start in range(0, len(messages), _AT_ONCE)
        for outcome in netlink.try_send(messages[start : start + _AT_ONCE])
    ]
    refused = {
        network: str(message.refused(code, reason))
        for network, message, (code, reason) in zip([*gone, *put], messages, outcomes, strict=True)
        if code and code not in message.tolerated
    }
    return WayChanges(len(put), len(gone), refused)


def _put(network: Network, ways: Ways, table: int, protocol: int) -> Message:
    gateways = sorted(ways.gateways, key=int)
    return m.put_ways(
        network, gateways, table=table, protocol=protocol, metric=_METRIC, source=ways.source
    )


def list_loopbacks(netlink: NetlinkSocket) -> list[Address]:
    """The addresses of ``lo`` that other machines can reach."""
    lo = loopback_index()
    found = (
        parse_address(payload)
        for version in ip_versions()
        for _kind, payload in netlink.dump(m.dump_addresses(version, lo))
    )
    return [
        entry.address
        for entry in found
        if entry.ifindex == lo and not (entry.address.is_loopback or entry.address.is_link_local)
    ]
