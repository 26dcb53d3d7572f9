"""Rules, block routes and stray pod routes of the host: make them equal to a desired set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from coil.nodenet import messages as m
from coil.nodenet.netlink import Message, NetlinkSocket
from coil.nodenet.observe import VERSIONS, HostState, list_routes, loopback_index
from coil.nodenet.parse import Route
from coil.nodenet.plan import Tables

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """What a sync changed: for the log and for tests of idempotence."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def sync_rules(netlink: NetlinkSocket, state: HostState, tables: Tables) -> RouteChanges:
    """Have the rule that looks pod routes up before main, in both families. Idempotent."""
    changes = RouteChanges()
    for version in VERSIONS:
        there = any(
            rule.version == version
            and rule.priority == tables.rule_priority
            and rule.table == tables.pod_table
            and rule.plain
            for rule in state.rules
        )
        if not there:
            netlink.send(m.add_rule(version, priority=tables.rule_priority, table=tables.pod_table))
            changes.added.append(f"rule {tables.rule_priority} IPv{version}")
    return changes


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
        unreachable=route.unreachable,
    )
