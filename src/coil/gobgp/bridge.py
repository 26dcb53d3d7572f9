"""Between gobgpd and the kernel, in both directions: list both, compare, make them equal."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from coil.gobgp.settings import Settings
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.observe import find_link_to, list_routes, loopback_index
from coil.nodenet.ways import Address, Network, Ways, list_loopbacks, sync_ways
from coil.routing.model import MAIN_TABLE
from coil.speakers.gobgp import Gobgp, Known


@dataclass(frozen=True, slots=True)
class Told:
    """What gobgpd was told about this machine's own networks."""

    announced: list[str]
    withdrawn: list[str]
    own: int
    """Networks announced now."""


class Announcer:
    """Has one gobgpd announce what is this machine's own. Its threads may tell at the same time."""

    def __init__(self, gobgp: Gobgp, settings: Settings) -> None:
        self._gobgp = gobgp
        self._settings = settings
        self._lock = threading.Lock()
        self._told: set[Network] | None = None
        """What it was told last: a list of all that it knows takes seconds where that is much."""

    def tell(self, listed: Collection[Network] | None = None) -> Told:
        """Make its announcements equal to what the kernel has. Raises CoilError. Idempotent.

        ``listed``: those it has, as it said after this was made; without it they are those it was
        told last, and nothing is done before the first list.
        """
        with self._lock:
            if listed is None and self._told is None:
                return Told([], [], 0)
            own = self._own()
            told = self._told or set()
            # A list may have been made before something was told.
            withdrawn = sorted(told.union(listed or ()) - own, key=str)
            announced = sorted(own.difference(told if listed is None else listed), key=str)
            # First what is no more: it may have a new owner.
            for network in withdrawn:
                self._gobgp.withdraw(network)
                told.discard(network)
            for network in announced:
                self._gobgp.announce(network)
            self._told = own
            return Told(list(map(str, announced)), list(map(str, withdrawn)), len(own))

    def _own(self) -> set[Network]:
        lo = (loopback_index(),)
        with NetlinkSocket() as netlink:
            loopbacks = {ip_network(address) for address in list_loopbacks(netlink)}
            routes = list_routes(netlink, self._settings.export_table)
        blocks = {
            route.network
            for route in routes
            if route.protocol == self._settings.protocol and route.ifindexes == lo
        }
        return loopbacks | blocks


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a pass did in the kernel, and found."""

    ours: frozenset[Network]
    """What gobgpd announces by our word."""
    routes: int
    """Those the kernel should have now."""
    added: int
    removed: int
    faults: dict[str, str]
    """What is wrong, by what it is about."""


def learn(gobgp: Gobgp, settings: Settings, *, remove: bool) -> Learnt:
    """Give the kernel what gobgpd has learnt; with ``remove`` take away what it has not.

    Raises CoilError. Idempotent.
    """
    known = gobgp.list_routes()
    with NetlinkSocket() as netlink:
        gateways = {gateway for entry in known.values() for gateway in entry.gateways}
        on_link = {gateway for gateway in gateways if find_link_to(netlink, gateway) is not None}
        wanted = want_ways(known, on_link, list_loopbacks(netlink))
        changes = sync_ways(
            netlink,
            wanted,
            table=MAIN_TABLE,
            protocol=settings.route_protocol,
            remove=remove,
        )
    faults = {str(network): reason for network, reason in changes.refused.items()}
    for gateway in gateways - on_link:
        faults[str(gateway)] = (
            f"next hop {gateway} is on no link of this machine that is up, so no route by it"
        )
    ours = frozenset(network for network, entry in known.items() if entry.ours)
    return Learnt(ours, len(wanted), changes.added, changes.removed, faults)


def want_ways(
    known: Mapping[Network, Known], on_link: Collection[Address], loopbacks: Iterable[Address]
) -> dict[Network, Ways]:
    """The routes the kernel should have, by gateways ``on_link`` only. Pure.

    A link that is down is out of use at once, whenever its session may find out.
    """
    sources: dict[int, Address] = {}
    for address in loopbacks:
        sources.setdefault(address.version, address)
    found = {}
    for network, entry in known.items():
        gateways = entry.gateways.intersection(on_link)
        if gateways and not entry.local:
            found[network] = Ways(gateways, sources.get(network.version))
    return found
