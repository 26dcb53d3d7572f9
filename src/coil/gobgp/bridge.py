"""One pass between gobgpd and the kernel: list both, compare, make them equal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from coil.gobgp.settings import Settings
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.observe import find_link_to, list_routes, loopback_index
from coil.nodenet.ways import Address, Network, Ways, list_loopbacks, sync_ways
from coil.routing.model import MAIN_TABLE
from coil.speakers.gobgp import Gobgp, Known


@dataclass(slots=True)
class Outcome:
    """What a pass did and found."""

    announced: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    added: int = 0
    removed: int = 0
    own: int = 0
    """Networks announced now."""
    learnt: int = 0
    """Routes wanted in the kernel now."""
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong, by what it is about."""


def make_equal(gobgp: Gobgp, settings: Settings, *, remove: bool) -> Outcome:
    """One pass; ``remove``: also routes that gobgpd does not have. Raises CoilError. Idempotent.

    What is announced here comes first: a block that was withdrawn may have a new owner.
    """
    outcome = Outcome()
    with NetlinkSocket() as netlink:
        loopbacks = list_loopbacks(netlink)
        known = gobgp.list_routes()
        own = {ip_network(address) for address in loopbacks} | _blocks(netlink, settings)
        _announce(gobgp, own, known, outcome)
        gateways = {gateway for entry in known.values() for gateway in entry.gateways}
        on_link = {gateway for gateway in gateways if find_link_to(netlink, gateway) is not None}
        wanted = want_ways(known, on_link, loopbacks)
        changes = sync_ways(
            netlink,
            wanted,
            table=MAIN_TABLE,
            protocol=settings.route_protocol,
            remove=remove,
        )
    outcome.own, outcome.learnt = len(own), len(wanted)
    outcome.added, outcome.removed = changes.added, changes.removed
    outcome.faults = {str(network): reason for network, reason in changes.refused.items()}
    for gateway in gateways - on_link:
        outcome.faults[str(gateway)] = (
            f"next hop {gateway} is on no link of this machine that is up, so no route by it"
        )
    return outcome


def _blocks(netlink: NetlinkSocket, settings: Settings) -> set[Network]:
    lo = (loopback_index(),)
    return {
        route.network
        for route in list_routes(netlink, settings.export_table)
        if route.protocol == settings.protocol and route.ifindexes == lo
    }


def _announce(
    gobgp: Gobgp, own: Collection[Network], known: Mapping[Network, Known], outcome: Outcome
) -> None:
    announced = {network for network, entry in known.items() if entry.ours}
    for network in sorted(announced - set(own), key=str):
        gobgp.withdraw(network)
        outcome.withdrawn.append(str(network))
    for network in sorted(set(own) - announced, key=str):
        gobgp.announce(network)
        outcome.announced.append(str(network))


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
