"""Rules, routes of blocks here and elsewhere, strays: make them equal to a desired set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from coil.nodenet import messages as m
from coil.nodenet.messages import Network
from coil.nodenet.netlink import Message, NetlinkSocket
from coil.nodenet.observe import list_routes, loopback_index
from coil.nodenet.parse import Route, Rule
from coil.nodenet.plan import Tables
from coil.nodenet.sysctl import ip_versions


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """What a sync changed: for the log and for tests of idempotence."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@dataclass(frozen=True, slots=True)
class NextHop:
    """A neighbour, and the link it is on."""

    gateway: IPv4Address | IPv6Address
    ifindex: int


def sync_rule(
    netlink: NetlinkSocket, there: Iterable[Rule], *, priority: int, table: int
) -> RouteChanges:
    """Have the rule that looks a table up for all packets, in all families. Idempotent."""
    changes = RouteChanges()
    for version in lacking_rules(there, priority=priority, table=table):
        netlink.send(m.add_rule(version, priority=priority, table=table))
        changes.added.append(f"rule {priority} IPv{version}")
    return changes


def lacking_rules(there: Iterable[Rule], *, priority: int, table: int) -> list[int]:
    """IP versions of the host without the rule that looks a table up for all packets."""
    right = {
        rule.version
        for rule in there
        if (rule.priority, rule.table, rule.plain) == (priority, table, True)
    }
    return sorted(ip_versions() - right)


def sync_next_hops(
    netlink: NetlinkSocket, wanted: Mapping[Network, NextHop], *, table: int, protocol: int
) -> RouteChanges:
    """Make our routes of a table equal to ``wanted``; returns what was changed. Idempotent.

    Routes of another protocol than ours are left alone. A route that leads elsewhere is replaced
    in one step: a packet finds the old one or the new one.
    """
    ours = [route for route in list_routes(netlink, table) if route.protocol == protocol]
    right = {route.network for route in ours if _leads(route, wanted.get(route.network))}
    replaced = wanted.keys() - right
    changes = RouteChanges()
    netlink_messages = []
    for network in sorted(replaced, key=str):
        hop = wanted[network]
        changes.added.append(f"{network} via {hop.gateway}")
        netlink_messages.append(
            m.put_route(network, hop.ifindex, table=table, protocol=protocol, gateway=hop.gateway)
        )
    for route in ours:
        if route.network not in replaced and not _leads(route, wanted.get(route.network)):
            changes.removed.append(f"{route.network} via {route.gateway}")
            netlink_messages.append(remove_route(route))
    if netlink_messages:
        netlink.send(*netlink_messages)
    return changes


def _leads(route: Route, hop: NextHop | None) -> bool:
    return (
        hop is not None
        and not route.unreachable
        and (route.gateway, route.ifindexes) == (hop.gateway, (hop.ifindex,))
    )


def remove_rule(netlink: NetlinkSocket, *, priority: int, table: int) -> None:
    """Have no such rule in either family. Idempotent."""
    rules = [m.delete_rule(version, priority=priority, table=table) for version in ip_versions()]
    netlink.send(*rules)


def sync_blocks(
    netlink: NetlinkSocket, *, held: Iterable[Network], exported: Iterable[Network], tables: Tables
) -> RouteChanges:
    """Make block routes equal to the desired sets; returns what was changed. Idempotent.

    ``held`` get an unreachable route in the pod table, ``exported`` a route in the export table.
    Withdrawn routes go first. Routes of another protocol than ours are left alone, unless one of
    them has taken a block's place.
    """
    pod_routes = _ours(netlink, tables.pod_table, tables)
    export_routes = _ours(netlink, tables.export_table, tables)
    unreachable = [route for route in pod_routes if route.unreachable]
    changes = RouteChanges()
    netlink_messages = [
        *_removals(export_routes, set(exported), changes),
        *_removals(unreachable, set(held), changes),
        *_additions(unreachable, set(held), tables, changes, unreachable=True),
        *_additions(export_routes, set(exported), tables, changes, unreachable=False),
    ]
    if netlink_messages:
        netlink.send(*netlink_messages)
    return changes


def _ours(netlink: NetlinkSocket, table: int, tables: Tables) -> list[Route]:
    return [route for route in list_routes(netlink, table) if route.protocol == tables.protocol]


def _removals(
    actual: list[Route], desired: set[Network], changes: RouteChanges
) -> Iterator[Message]:
    lo = loopback_index()
    for route in actual:
        right = route.network in desired and (route.unreachable or route.ifindexes == (lo,))
        if not right:
            changes.removed.append(f"{route.network} table {route.table}")
            yield remove_route(route)


def _additions(
    actual: list[Route],
    desired: set[Network],
    tables: Tables,
    changes: RouteChanges,
    *,
    unreachable: bool,
) -> Iterator[Message]:
    lo = loopback_index()
    there = {r.network for r in actual if r.unreachable == unreachable}
    right = {r.network for r in actual if r.unreachable or r.ifindexes == (lo,)}
    for network in sorted(desired - (there & right), key=str):
        table = tables.pod_table if unreachable else tables.export_table
        changes.added.append(f"{network} table {table}")
        if unreachable:
            yield m.put_unreachable(network, table=table, protocol=tables.protocol)
        else:
            yield m.put_route(network, lo, table=table, protocol=tables.protocol)


def remove_route(route: Route) -> Message:
    """The request that removes exactly this route."""
    return m.delete_route(
        route.network,
        table=route.table,
        protocol=route.protocol,
        ifindex=route.ifindexes[0] if len(route.ifindexes) == 1 else 0,
        gateway=route.gateway,
        metric=route.metric,
        unreachable=route.unreachable,
    )
