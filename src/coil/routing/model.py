"""A router of the fabric, in words that every routing daemon has.

The fabric is a Clos network (RFC 7938). A rack is one AS: its ToRs and nodes share the number, so a
ToR speaks iBGP with its nodes, reflects their routes to each other and sets itself as the next hop;
no node needs a session to another. ToRs and spines speak eBGP. Whether a session is internal is
never said twice: it is when both ends have the same AS.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from coil.domain.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_ASN = 2**32 - 1
MAX_TABLE = 2**32 - 1
MAX_PROTOCOL = 255
EXPORT_TABLE = 119
EXPORT_PROTOCOL = 30
MAIN_TABLE = 254
NOT_FABRIC: dict[int, tuple[tuple[str, int], ...]] = {
    4: (("0.0.0.0/0", 7), ("127.0.0.0/8", 32), ("169.254.0.0/16", 32), ("224.0.0.0/4", 32)),
    6: (("::/0", 15), ("fe80::/10", 128), ("ff00::/8", 128)),
}
"""What no session carries, up to that length: default routes, halves of them and the like, which
draw the traffic of all when they leak; and what has a meaning on one machine or link only."""
_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
_MIN_HOLD, _MAX_HOLD = 3, 65_535
"""RFC 4271, 4.2: a hold time is 0 or at least three seconds; 0 would never notice anything."""
_MIN_BFD, _MAX_BFD = 10, 60_000
"""Milliseconds that FRR takes."""


class Role(StrEnum):
    """What a router is in the fabric."""

    NODE = "node"
    """Announces its loopbacks and the blocks it owns; passes nothing on."""
    TOR = "tor"
    """Reflects between its nodes; tells the spines of its rack only (nothing goes down and up)."""
    SPINE = "spine"
    """Passes on what it hears."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The other end of a session, by the address it has on the link between both.

    An IPv4 address carries IPv4 routes, an IPv6 address IPv6 routes: a dual-stack link has two.
    """

    address: Address
    asn: int
    name: str = ""
    """For people: a session is called after it. Need not be unique."""

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.address.version


@dataclass(frozen=True, slots=True)
class Bfd:
    """A link is lost after ``multiplier`` packets, sent every ``interval_ms``, did not come."""

    interval_ms: int = 200
    multiplier: int = 3


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds. BGP's own are for carriers; a fabric wants to be there at once."""

    connect_retry: int = 2
    keepalive: int = 3
    hold: int = 9
    """Only what notices a lost neighbour where BFD is off."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Routes accepted from one neighbour; more are refused while the session stays."""

    node: int = 1000
    """From a node. It owns tens of blocks; a thousand is a mistake."""
    fabric: int = 100_000
    """From a ToR or a spine: 5,000 nodes with four blocks each and room."""


@dataclass(frozen=True, slots=True)
class Router:
    """All that a configuration is made of. Raises ConfigError for what cannot be."""

    name: str
    role: Role
    asn: int
    loopbacks: tuple[Address, ...]
    """Addresses of ``lo``, at most one a family: announced, and the source of what it sends."""
    neighbours: tuple[Neighbour, ...]
    router_id: IPv4Address | None = None
    """None: the IPv4 loopback, which then must be there."""
    bfd: Bfd | None = Bfd()
    timers: Timers = Timers()
    limits: Limits = Limits()
    export_table: int = EXPORT_TABLE
    """Kernel table that coild writes the blocks of a node to."""
    protocol: int = EXPORT_PROTOCOL
    """The kernel's protocol number of coild's routes: others in that table are not announced."""
    aggregates: str = ""
    """A ToR's: file of prefixes announced instead of the blocks in them, which it includes."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_number("AS number", self.asn, MAX_ASN)
        _check_number("export table", self.export_table, MAX_TABLE)
        _check_number("route protocol", self.protocol, MAX_PROTOCOL)
        self._check_loopbacks()
        self._check_neighbours()
        self._check_times()
        if self.aggregates and self.role is not Role.TOR:
            raise ConfigError(f"only a ToR announces aggregates, not a {self.role}")
        if not self.aggregates.isprintable() or '"' in self.aggregates:
            raise ConfigError(f"{self.aggregates!r} cannot stand in a configuration as a path")

    def _check_loopbacks(self) -> None:
        for address in self.loopbacks:
            if not _is_of_a_host(address) or address.is_link_local:
                raise ConfigError(
                    f"loopback {address} must be an address that others reach, such as 10.0.0.1"
                )
        for version, count in Counter(a.version for a in self.loopbacks).items():
            if count > 1:
                raise ConfigError(f"{self.name} has {count} IPv{version} loopbacks; give one")
        if self.router_id is None and self.find_loopback(4) is None:
            raise ConfigError(
                f"{self.name} has no IPv4 loopback to take the router id from; give a router id"
            )
        if int(self.id) == 0:
            raise ConfigError("router id 0.0.0.0 stands for none; give another")

    def _check_neighbours(self) -> None:
        for neighbour in self.neighbours:
            _check_number("AS number", neighbour.asn, MAX_ASN)
            if neighbour.name:
                _check_name(neighbour.name)
            self._check_address(neighbour.address)
            if self.role is Role.NODE and not self.is_internal(neighbour):
                raise ConfigError(
                    f"neighbour {neighbour.address} is of AS {neighbour.asn}, the node of AS "
                    f"{self.asn}: a node shares the AS of its rack with its ToRs"
                )
        for address, count in Counter(n.address for n in self.neighbours).items():
            if count > 1:
                raise ConfigError(f"neighbour {address} is named {count} times")

    def _check_address(self, address: Address) -> None:
        """Of a neighbour."""
        if not _is_of_a_host(address) or address in self.loopbacks:
            raise ConfigError(
                f"neighbour {address} must be the address of another router on a link with it"
            )
        if address.version == 6 and address.is_link_local:
            raise ConfigError(
                f"neighbour {address} is a link-local address, which says nothing without its "
                "link; give the link addresses of its own, such as a /127"
            )

    def _check_times(self) -> None:
        hold, bfd = self.timers.hold, self.bfd
        if not max(_MIN_HOLD, self.timers.keepalive + 1) <= hold <= _MAX_HOLD:
            raise ConfigError(
                f"hold time of {hold} s must be {_MIN_HOLD} to {_MAX_HOLD} s and longer than that "
                "between keepalives"
            )
        if bfd and not (_MIN_BFD <= bfd.interval_ms <= _MAX_BFD and 2 <= bfd.multiplier <= 255):
            raise ConfigError(
                f"BFD needs an interval of {_MIN_BFD} to {_MAX_BFD} ms and a multiplier of 2 to 255"
            )

    @property
    def id(self) -> IPv4Address:
        """The router id."""
        found = self.router_id or self.find_loopback(4)
        if not isinstance(found, IPv4Address):
            raise ConfigError(f"{self.name} has no router id")
        return found

    def loopback_networks(self, version: int) -> list[Network]:
        """The loopbacks of that family as they are announced."""
        return [ip_network(a) for a in self.loopbacks if a.version == version]

    def find_loopback(self, version: int) -> Address | None:
        """The loopback of that family, if there is one."""
        return next((a for a in self.loopbacks if a.version == version), None)

    def is_internal(self, neighbour: Neighbour) -> bool:
        """Whether the session is iBGP: both ends are of one rack."""
        return neighbour.asn == self.asn

    def families(self) -> tuple[int, ...]:
        """Address families it has routes of: those of its loopbacks and neighbours."""
        found = {a.version for a in self.loopbacks} | {n.version for n in self.neighbours}
        return tuple(sorted(found))


def _is_of_a_host(address: Address) -> bool:
    """Whether a machine can have it, seen from others; BIRD takes no IPv4 beyond 223/8, nor 0/8."""
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        return False
    return isinstance(address, IPv6Address) or 0 < int(address) >> 24 < 224


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"name {text[:80]!r} of a router must be 1 to 63 letters, digits, '-', '_' or '.', "
            "beginning with a letter or digit"
        )


def _check_number(what: str, value: int, largest: int) -> None:
    if not 1 <= value <= largest:
        raise ConfigError(f"{what} {value} must be 1 to {largest}")


def session_names(neighbours: Iterable[Neighbour]) -> dict[Address, str]:
    """A name for each neighbour's session: unique, and a word in every daemon's language."""
    names: dict[Address, str] = {}
    taken: set[str] = set()
    for neighbour in neighbours:
        text = neighbour.name or str(neighbour.address)
        word = "".join(c if c.isascii() and c.isalnum() else "_" for c in text)
        first = "n" if word[0].isdigit() else ""
        base = f"{first}{word[:40]}_v{neighbour.version}"
        number, unique = 1, base
        while unique in taken:
            number += 1
            unique = f"{base}_{number}"
        taken.add(unique)
        names[neighbour.address] = unique
    return names
