"""Whether an attachment is in the kernel as it should be. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from coil.domain.attachment import Attachment, AttachmentKey
from coil.nodenet import messages as m
from coil.nodenet.messages import Address, Network
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.netns import NetnsHandle
from coil.nodenet.observe import HostLink, HostState, observe_link
from coil.nodenet.parse import parse_address, parse_gateways, parse_route, parse_rule
from coil.nodenet.plan import GATEWAYS, HOST_MAC, Tables, host_network
from coil.nodenet.routes import lacking_rules
from coil.nodenet.sysctl import forwarding
from coil.nodenet.veth import find_link


def host_faults(
    state: HostState, attachments: Iterable[Attachment], tables: Tables
) -> dict[AttachmentKey, list[str]]:
    """What is wrong on the host's side, one sentence each, with those that are not well."""
    networks = state.networks_behind()
    faults: dict[AttachmentKey, list[str]] = {}
    for attachment in attachments:
        found = state.links.get(attachment.host_ifname)
        if found is None:
            faults[attachment.key] = [f"host link {attachment.host_ifname} is missing"]
        elif wrong := [
            *_host_link_faults(found, attachment),
            *_route_faults(networks[found.link.ifindex], attachment, tables),
        ]:
            faults[attachment.key] = wrong
    return faults


def link_faults(netlink: NetlinkSocket, attachment: Attachment, tables: Tables) -> list[str]:
    """As ``host_faults``, of one that is looked at now."""
    state = observe_link(netlink, tables, attachment.host_ifname)
    return host_faults(state, [attachment], tables).get(attachment.key, [])


def _host_link_faults(found: HostLink, attachment: Attachment) -> list[str]:
    name = attachment.host_ifname
    faults = []
    if found.owner is None or found.owner.key != attachment.key:
        faults.append(f"host link {name} does not name the attachment in its alias")
    if not found.link.up:
        faults.append(f"host link {name} is down")
    if found.link.mac != HOST_MAC:
        faults.append(f"host link {name} has MAC {found.link.mac} instead of {HOST_MAC}")
    if found.link.mtu != attachment.mtu:
        faults.append(f"host link {name} has MTU {found.link.mtu} instead of {attachment.mtu}")
    gateways = [GATEWAYS[address.version] for address in attachment.addresses]
    lacking = [gateway for gateway in gateways if gateway not in found.addresses]
    return faults + [f"host link {name} lacks address {gateway}" for gateway in lacking]


def _route_faults(there: Collection[Network], attachment: Attachment, tables: Tables) -> list[str]:
    return [
        f"route {host_network(address)} dev {attachment.host_ifname} is missing in table "
        f"{tables.pod_table}"
        for address in attachment.addresses
        if host_network(address) not in there
    ]


def node_faults(
    state: HostState, attachment: Attachment, block: Iterable[Network], tables: Tables
) -> list[str]:
    """What is wrong with what all attachments of a block depend on, one sentence each.

    ``block``: its networks. (CHECK must tell "external dependencies ... required for connectivity",
    CNI specification 1.1.0, section 2.)
    """
    versions = {address.version for address in attachment.addresses}
    lacking = lacking_rules(state.rules, priority=tables.rule_priority, table=tables.pod_table)
    exported = {route.network for route in state.export_routes}
    return [
        *(
            f"the IPv{version} rule of priority {tables.rule_priority}, which looks up table "
            f"{tables.pod_table}, is missing"
            for version in lacking
            if version in versions
        ),
        *(
            f"the host does not forward IPv{version}"
            for version in sorted(versions)
            if not forwarding(version)
        ),
        *(
            f"block route {network} is missing in table {tables.export_table}: only this host "
            "reaches the pod"
            for network in block
            if network not in exported
        ),
    ]


def pod_faults(
    netns: NetnsHandle, attachment: Attachment, gateways: Collection[Address]
) -> list[str]:
    """What is wrong inside the pod, one sentence each. Worker threads only.

    ``gateways``: to which of coil's it is to have a default route.
    """
    with netns.open_netlink() as inside:
        return _inside_faults(inside, attachment, gateways)


def _inside_faults(
    inside: NetlinkSocket, attachment: Attachment, gateways: Collection[Address]
) -> list[str]:
    ifname = attachment.key.ifname
    link = find_link(inside, ifname)
    if link is None:
        return [f"interface {ifname} is missing in {attachment.netns.path}"]
    faults = [] if link.up else [f"interface {ifname} is down"]
    for address in attachment.addresses:
        dump = inside.dump(m.dump_addresses(address.version, link.ifindex))
        there = {(a.address, a.prefixlen) for a in (parse_address(p) for _k, p in dump)}
        if (address, address.max_prefixlen) not in there:
            faults.append(f"interface {ifname} lacks address {host_network(address)}")
        gateway = GATEWAYS[address.version]
        if gateway in gateways and not _has_way_out(inside, address.version, link.ifindex):
            faults.append(f"interface {ifname} has no default route via {gateway}")
    return faults


def _has_way_out(inside: NetlinkSocket, version: int, ifindex: int) -> bool:
    """A default route by this link to its gateway, in a table that some rule looks up."""
    rules = [parse_rule(p) for k, p in inside.dump(m.dump_rules(version)) if k == m.RTM_NEWRULE]
    for table in {rule.table for rule in rules}:
        for _kind, payload in inside.dump(m.dump_routes(version, table)):
            route = parse_route(payload)
            leads_here = route.network.prefixlen == 0 and ifindex in route.ifindexes
            if leads_here and GATEWAYS[version] in parse_gateways(payload):
                return True
    return False
