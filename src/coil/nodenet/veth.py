"""The veth pair of an attachment: make it so, take it back, say what is wrong with it.

Every step can be done again on what a killed run left behind.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress

from coil.domain.attachment import Attachment
from coil.nodenet import messages as m
from coil.nodenet.errors import KernelRefused, LinkExists, NodeNetError
from coil.nodenet.netlink import Message, NetlinkSocket
from coil.nodenet.netns import NetnsHandle, is_local
from coil.nodenet.observe import find_links_of
from coil.nodenet.parse import Link, parse_link, parse_route
from coil.nodenet.plan import (
    DEFAULT_ROUTES,
    GATEWAYS,
    HOST_MAC,
    Tables,
    alias_of,
    find_owner,
    link_local,
)
from coil.nodenet.sysctl import enable_ipv6

StepHook = Callable[[str], None]
_SECONDARY_TABLE_BASE = 10_000
"""Inside a pod: table of its second, third... interface is this plus the link's index."""
_WITH_RULES = 0x636F6972
"""'coir': the device group of a host end whose other end has rules in its pod."""
_LINK_LOCAL_BITS = 64
_SWITCHED_OFF = (errno.EACCES, errno.EPERM)
"""IPv6 is, by the link's disable_ipv6."""
_ROUTE_TAKEN = (errno.EEXIST, errno.ENETUNREACH)
"""Another interface has the default route; ENETUNREACH: has the route to the gateway."""


def attach(
    host: NetlinkSocket,
    netns: NetnsHandle,
    attachment: Attachment,
    tables: Tables,
    step: StepHook,
) -> None:
    """Make the pair, its addresses and routes; what is there already of it is kept.

    A pair made by this call is removed again when a later step fails. Raises LinkExists,
    KernelRefused. ``step`` is called with the name of each point at
    which a kill leaves something behind.
    """
    created = _ensure_pair(host, netns, attachment)
    try:
        step("add-linked")
        ensure_host_end(host, attachment, tables, created=created)
        step("add-routed")
        _ensure_pod_end(host, netns, attachment)
        host.settle_carrier(attachment.host_ifname)
    except Exception:
        if created:
            _remove(host, attachment.host_ifname)
        raise


def _ensure_pair(host: NetlinkSocket, netns: NetnsHandle, attachment: Attachment) -> bool:
    """Make the pair, or find the one that is there; whether it was made."""
    create = m.create_veth(
        host_ifname=attachment.host_ifname,
        host_mac=HOST_MAC,
        pod_ifname=attachment.key.ifname,
        pod_mac=attachment.mac,
        mtu=attachment.mtu,
        netns_fd=netns.fd,
    )
    try:
        host.send(create)
    except KernelRefused as exc:
        if exc.errno != errno.EEXIST:
            raise
        if _is_whole(host, netns, attachment):
            return False
        host.send(create)  # what stood in the way was ours and is gone
    return True


def _is_whole(host: NetlinkSocket, netns: NetnsHandle, attachment: Attachment) -> bool:
    """Whether our pair connects host and this namespace; a remnant of ours is removed.

    Raises LinkExists for an interface that is not ours, on either side.
    """
    ours = find_link(host, attachment.host_ifname) or _rename_back(host, attachment)
    with netns.open_netlink() as inside:
        pod_end = find_link(inside, attachment.key.ifname)
    if ours is None:
        raise _occupied(netns, pod_end, attachment)
    owner = find_owner(ours.alias)
    if ours.kind != "veth" or (ours.alias and (not owner or owner.key != attachment.key)):
        raise LinkExists(f"host link {attachment.host_ifname} already exists and is not coil's")
    if pod_end is None:
        host.send(m.delete_link(ours.ifindex))
        return False
    if pod_end.peer_ifindex != ours.ifindex or ours.peer_ifindex != pod_end.ifindex:
        raise _occupied(netns, pod_end, attachment)
    return True


def _occupied(netns: NetnsHandle, pod_end: Link | None, attachment: Attachment) -> LinkExists:
    ifname = attachment.key.ifname
    if pod_end and pod_end.mac == attachment.mac:
        return LinkExists(
            f"{ifname} in {netns.path} has lost its other end {attachment.host_ifname}, which is "
            "not in the host's namespace any more: move it back there, or recreate the pod"
        )
    return LinkExists(f"CNI_IFNAME {ifname} already exists in {netns.path}")


def _rename_back(host: NetlinkSocket, attachment: Attachment) -> Link | None:
    """Find the host end by its alias where somebody gave it another name, and mend that."""
    for link in find_links_of(host, frozenset({attachment.key})):
        _rename(host, link.ifindex, attachment.host_ifname)
        return find_link(host, attachment.host_ifname)
    return None


def _rename(host: NetlinkSocket, ifindex: int, name: str) -> None:
    """Rename a link, which is down then: links that are up can be renamed since Linux 6.2 only."""
    host.send(m.set_down(ifindex), m.rename_link(ifindex, name))


def rename_host_end(
    host: NetlinkSocket, ifname: str, attachment: Attachment, tables: Tables
) -> None:
    """Give the host end, called ``ifname`` by now, the attachment's name; fine when it is gone."""
    ifindex = host.find_ifindex(ifname)
    if ifindex is not None:
        _rename(host, ifindex, attachment.host_ifname)
        ensure_host_end(host, attachment, tables)


def ensure_host_end(
    host: NetlinkSocket, attachment: Attachment, tables: Tables, *, created: bool = False
) -> None:
    """Alias, MAC, MTU, gateway addresses and pod routes of the host end. Idempotent.

    ``created``: just now, so MAC and MTU are what they should be.
    """
    ifindex = _index(host, attachment.host_ifname)
    messages = list(_host_messages(ifindex, attachment, tables, created=created))
    try:
        host.send(*messages)
    except KernelRefused as exc:
        if exc.errno not in _SWITCHED_OFF:
            raise
        enable_ipv6(attachment.host_ifname)
        host.send(*messages)


def _host_messages(
    ifindex: int, attachment: Attachment, tables: Tables, *, created: bool
) -> Iterator[Message]:
    versions = {address.version for address in attachment.addresses}
    if not created:  # before all else: below 1280 a link has no IPv6
        yield m.set_mtu(ifindex, attachment.mtu)
    yield m.no_auto_link_local(ifindex)
    if 4 in versions:
        # Scope host: not a source for packets to the pod (the kernel takes the node's address),
        # yet ARP answers for it under arp_ignore=1 (inet_confirm_addr, RT_SCOPE_HOST).
        yield m.put_address(ifindex, GATEWAYS[4], 32, scope=m.RT_SCOPE_HOST)
    yield m.raise_link(ifindex, alias=alias_of(attachment), mac="" if created else HOST_MAC)
    if 6 in versions:
        yield m.put_address(ifindex, GATEWAYS[6], _LINK_LOCAL_BITS, scope=m.RT_SCOPE_LINK)
    for address in attachment.addresses:
        yield m.put_route(address, ifindex, table=tables.pod_table, protocol=tables.protocol)


def settle_carriers(host: NetlinkSocket, netns: NetnsHandle, attachment: Attachment) -> None:
    """Have both ends carry at once (``NetlinkSocket.settle_carrier``), when one was raised."""
    with netns.open_netlink() as inside:
        inside.settle_carrier(attachment.key.ifname)
    host.settle_carrier(attachment.host_ifname)


def _ensure_pod_end(host: NetlinkSocket, netns: NetnsHandle, attachment: Attachment) -> None:
    """Addresses, routes and neighbours of the pod's end."""
    with netns.open_netlink() as inside:
        ifindex = _index(inside, attachment.key.ifname)
        try:
            further = _send_pod_messages(inside, ifindex, attachment)
        except KernelRefused as exc:
            if exc.errno not in _SWITCHED_OFF:
                raise
            with netns.entered():
                enable_ipv6(attachment.key.ifname)
            further = _send_pod_messages(inside, ifindex, attachment)
        if further:
            # Marked first: a DEL looks for rules only where the mark is. A pair that was there is
            # marked as well, and so leaves the group in which a DEL that was killed has left it.
            host.send(m.put_in_group(_index(host, attachment.host_ifname), _WITH_RULES))
            _ensure_secondary_routes(inside, ifindex, attachment)
        inside.settle_carrier(attachment.key.ifname)


def _send_pod_messages(inside: NetlinkSocket, ifindex: int, attachment: Attachment) -> bool:
    """All of the pod's end in one request; whether there was a default route already."""
    routes = [
        message
        for address in attachment.addresses
        for message in _default_routes(address.version, ifindex, m.RT_TABLE_MAIN, only_new=True)
    ]
    messages = [*_pod_messages(ifindex, attachment), *routes]
    existing = False
    for message, (code, reason) in zip(messages, inside.try_send(messages), strict=True):
        if code in _ROUTE_TAKEN and message in routes:
            existing = True
        elif code and code not in message.tolerated:
            raise message.refused(code, reason)
    return existing


def _pod_messages(ifindex: int, attachment: Attachment) -> Iterator[Message]:
    yield m.no_auto_link_local(ifindex)
    for address in attachment.addresses:
        if address.version == 6:
            local = link_local(attachment.mac)
            yield m.put_address(ifindex, local, _LINK_LOCAL_BITS, scope=m.RT_SCOPE_LINK)
        yield m.put_address(ifindex, address, address.max_prefixlen, scope=m.RT_SCOPE_UNIVERSE)
    yield m.raise_link(ifindex)


def _ensure_secondary_routes(inside: NetlinkSocket, ifindex: int, attachment: Attachment) -> None:
    """For families whose default route another interface has: a table of this one's own."""
    for address in attachment.addresses:
        if not _has_default(inside, address.version, ifindex):
            table = _SECONDARY_TABLE_BASE + ifindex
            inside.send(
                *_default_routes(address.version, ifindex, table, only_new=False),
                m.add_rule(address.version, priority=table, table=table, source=address),
            )


def may_have_rules(link: Link) -> bool:
    """Whether a pod may have rules for the other end of this host end: a further interface's."""
    return link.group == _WITH_RULES


def forget_secondary_rules(attachment: Attachment) -> None:
    """Remove what of a further interface does not go with its link: its rules in the pod.

    Before the link is removed. It is no failure when the pod cannot be looked into any more.
    Enters the pod's namespace: see NetnsStuck.
    """
    if not is_local(attachment.netns.path):
        return
    with (
        suppress(NodeNetError, OSError),
        NetnsHandle(attachment.netns) as netns,
        netns.open_netlink() as inside,
    ):
        _forget_secondary_rules(inside, attachment)


def _forget_secondary_rules(inside: NetlinkSocket, attachment: Attachment) -> None:
    table = _SECONDARY_TABLE_BASE + _index(inside, attachment.key.ifname)
    rules = (
        m.delete_rule(address.version, priority=table, table=table, source=address)
        for address in attachment.addresses
    )
    inside.send(*rules)


def _default_routes(version: int, ifindex: int, table: int, *, only_new: bool) -> Iterator[Message]:
    gateway = GATEWAYS[version]
    if version == 4:  # fe80::/64 is on every link, 169.254.1.1 needs saying
        yield m.put_route(gateway, ifindex, table=table, protocol=_BOOT, only_new=only_new)
    yield m.put_route(
        DEFAULT_ROUTES[version],
        ifindex,
        table=table,
        protocol=_BOOT,
        gateway=gateway,
        only_new=only_new,
    )


_BOOT = 3  # RTPROT_BOOT: set up by hand or by a script, as far as the pod is concerned


def _has_default(
    inside: NetlinkSocket, version: int, ifindex: int, table: int = m.RT_TABLE_MAIN
) -> bool:
    for _kind, payload in inside.dump(m.dump_routes(version, table)):
        route = parse_route(payload)
        if route.network.prefixlen == 0 and ifindex in route.ifindexes:
            return True
    return False


def find_link(netlink: NetlinkSocket, ifname: str) -> Link | None:
    """The link of that name in the socket's namespace."""
    payload = netlink.get(m.get_link(ifname=ifname))
    return parse_link(payload) if payload else None


def _index(netlink: NetlinkSocket, ifname: str) -> int:
    ifindex = netlink.find_ifindex(ifname)
    if ifindex is None:
        raise KernelRefused(f"find link {ifname}", errno.ENODEV)
    return ifindex


def _remove(host: NetlinkSocket, ifname: str) -> None:
    ifindex = host.find_ifindex(ifname)
    if ifindex is not None:
        host.send(m.delete_link(ifindex))
