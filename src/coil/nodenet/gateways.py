"""The gateways of the host's routes: whether any leads on, and which do not answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterable, Iterator

from coil.nodenet import messages as m
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.parse import Gateway, parse_live_gateways, parse_neighbour, parse_protocol
from coil.nodenet.sysctl import ip_versions

_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
_DISCARD = 9
"""A UDP port that nobody expects anything from (RFC 863)."""


def has_way_out(netlink: NetlinkSocket, silent: Collection[int | Gateway] = ()) -> bool:
    """Whether any route of the main table leads on by a gateway that can be reached.

    Where a routing daemon learns the fabric, none is left when all its neighbours are lost. Routes
    of ``silent`` protocols do not count: nobody removes them any more. Nor do silent gateways.
    """
    return any(
        parse_protocol(payload) not in silent and not parse_live_gateways(payload).issubset(silent)
        for payload in _main_routes(netlink)
    )


def find_silent_gateways(netlink: NetlinkSocket, suspects: Iterable[Gateway]) -> set[Gateway]:
    """Gateways of the main table that the kernel asked for in vain, or asks for just now.

    Routes that an administrator or DHCP made stay whoever is at their end. ``suspects`` are given
    a packet first: the kernel asks for those only that somebody sends to, and forgets who did not
    answer.
    """
    for gateway in suspects:
        _send(gateway)
    entries = (
        parse_neighbour(payload)
        for version in ip_versions()
        for _kind, payload in netlink.dump(m.dump_neighbours(version))
    )
    lacking = {gateway for gateway, state in entries if state & (m.NUD_INCOMPLETE | m.NUD_FAILED)}
    if not lacking:
        return set()
    return {
        gateway
        for payload in _main_routes(netlink)
        for gateway in parse_live_gateways(payload)
        if gateway in lacking
    }


def _main_routes(netlink: NetlinkSocket) -> Iterator[bytes]:
    for version in ip_versions():
        for _kind, payload in netlink.dump(m.dump_routes(version, m.RT_TABLE_MAIN)):
            yield payload


def _send(gateway: Gateway) -> None:
    """An empty datagram by the gateway's own link, whatever the routes are."""
    address = gateway.address
    with contextlib.suppress(OSError), socket.socket(m.family(address.version), _DATAGRAM) as sock:
        ifname = socket.if_indextoname(gateway.ifindex).encode()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname)
        scope = (0, gateway.ifindex) if address.is_link_local and address.version == 6 else ()
        sock.sendto(b"", (str(address), _DISCARD, *scope))
