r"""What a lab consists of, from the few numbers of ``coil-lab up``. Pure.

::

    spine1    spine2        one AS for all of them
      |  \    /  |
      |   \  /   |          each ToR to each spine
      |   /  \   |
    tor1      tor2          one AS a rack: the ToR, its nodes, its etcd members
    / | \     / | \
 r1n1 r1n2   r2n1 r2n2      etcd1 at tor1, etcd2 at tor2, etcd3 at tor1, ...
    etcd1     etcd2         coil-controller on r1n1, r2n1, r3n1

Links have addresses of their own that nobody announces; each machine's loopbacks are its name in
the fabric. All of it is the same in each lab: labs have no link to each other or to the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network

from coil.domain.errors import RequestError
from coil.domain.pool import DEFAULT_COOL_DOWN, MAX_COOL_DOWN
from coil.routing.model import Address, Neighbour, Role, Router

_ROUTER_IDS = IPv4Network("172.30.0.0/16")
_LINKS: dict[int, IPv4Network | IPv6Network] = {
    4: IPv4Network("172.31.0.0/16"),
    6: IPv6Network("fd00:172:31::/112"),
}
_LOOPBACKS: dict[int, IPv4Network | IPv6Network] = {
    4: _ROUTER_IDS,
    6: IPv6Network("fd00:172:30::/112"),
}
_SPINE_AS = 64_900
_RACK_AS = 65_000
"""Plus the rack's number; both lie in the private numbers of 16 bits (RFC 6996)."""
_LIMITS = {"spines": (1, 16), "racks": (1, 100), "nodes_per_rack": (1, 100), "etcd": (1, 7)}
_CONTROLLERS = 3
"""As many as operators are told to run (docs/cmd-coil-controller.md)."""
_MAX_MACHINES = 250
"""One machine has to run a routing daemon and more for each."""
_LAB_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,19}[a-z0-9])?")
_POD_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Kind(StrEnum):
    """What a machine of the lab is."""

    SPINE = "spine"
    TOR = "tor"
    NODE = "node"
    ETCD = "etcd"

    @property
    def is_router(self) -> bool:
        """Whether it only carries packets of others."""
        return self in {Kind.SPINE, Kind.TOR}


_ROLES = {Kind.SPINE: Role.SPINE, Kind.TOR: Role.TOR, Kind.NODE: Role.NODE, Kind.ETCD: Role.NODE}


class UnknownName(RequestError):
    """The lab has nothing of this name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What ``coil-lab up`` is told. Raises RequestError for a topology that cannot be."""

    spines: int = 2
    racks: int = 2
    nodes_per_rack: int = 2
    etcd: int = 3
    families: tuple[int, ...] = (4,)
    """4, 6 or both."""
    cool_down: int = DEFAULT_COOL_DOWN
    """Seconds: of the pool ``default``."""
    grace: int = DEFAULT_COOL_DOWN + 20
    """Seconds a node must be silent before the controller takes its blocks."""

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                option = name.replace("_", "-")
                raise RequestError(f"--{option} {value} must be {least} to {most}")
        if self.etcd % 2 == 0:
            raise RequestError(
                f"--etcd {self.etcd} must be odd: an even member adds no majority, only a member "
                "that can fail"
            )
        if not 0 <= self.cool_down <= MAX_COOL_DOWN:
            raise RequestError(f"--cool-down {self.cool_down} must be 0 to {MAX_COOL_DOWN} seconds")
        if self.grace <= self.cool_down:
            raise RequestError(
                f"--grace {self.grace} must be more than --cool-down {self.cool_down}: the next "
                "owner of a block gives its addresses at once"
            )
        machines = self.spines + self.racks * (1 + self.nodes_per_rack) + self.etcd
        if machines > _MAX_MACHINES:
            raise RequestError(
                f"a lab of {machines} machines is too large; {_MAX_MACHINES} is the most, routers "
                "and etcd included"
            )


@dataclass(frozen=True, slots=True)
class Machine:
    """A network namespace of the lab that has links, a routing daemon and perhaps more."""

    name: str
    kind: Kind
    number: int
    """From 1: no other machine of the lab has it."""
    asn: int
    rack: str = ""
    """Empty: a spine."""
    loopbacks: tuple[Address, ...] = ()

    @property
    def address(self) -> Address:
        """The loopback by which others find it: IPv4 where there is IPv4."""
        return self.loopbacks[0]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link; it is called after the machine at the other end."""

    machine: Machine
    ifname: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A cable between two machines, the one nearer to the spines first."""

    upper: End
    lower: End

    @property
    def ends(self) -> tuple[End, End]:
        """Both."""
        return (self.upper, self.lower)

    def find_far(self, machine: Machine) -> tuple[End, End] | None:
        """The end at ``machine`` and the other one; None when it has no part in this link."""
        if self.upper.machine == machine:
            return self.upper, self.lower
        if self.lower.machine == machine:
            return self.lower, self.upper
        return None


def parse_lab_name(text: str) -> str:
    """Return ``text`` as the name of a lab. Raises RequestError."""
    if not _LAB_NAME.fullmatch(text):
        raise RequestError(
            f"lab name {text[:40]!r} must be 1 to 21 lower-case letters, digits or '-', beginning "
            "and ending with a letter or digit"
        )
    return text


def is_pod_name(text: str) -> bool:
    """Whether a pod can be called so; if not, it is no part of a path either."""
    return _POD_NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Plan:
    """Everything that follows from a shape."""

    shape: Shape

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """By name: spines, then rack by rack, then etcd members."""
        return {machine.name: machine for machine in self._machines()}

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Spine by spine, then ToR by ToR."""
        return tuple(self._links())

    @cached_property
    def controllers(self) -> tuple[Machine, ...]:
        """Where coil-controller runs: on the first node of each of the first racks.

        On nodes, as it does in a cluster: beside etcd it would take a node for gone that only
        has no way to etcd's machines.
        """
        first: dict[str, Machine] = {}
        for node in self.of_kind(Kind.NODE):
            first.setdefault(node.rack, node)
        return tuple(first.values())[:_CONTROLLERS]

    @cached_property
    def names(self) -> dict[Address, str]:
        """Whose an address is, those of links included."""
        found = {a: m.name for m in self.machines.values() for a in m.loopbacks}
        ends = [end for link in self.links for end in link.ends]
        return found | {a: end.machine.name for end in ends for a in end.addresses}

    def of_kind(self, *kinds: Kind) -> list[Machine]:
        """The machines of these kinds, in order."""
        return [machine for machine in self.machines.values() if machine.kind in kinds]

    def get_machine(self, name: str, *kinds: Kind) -> Machine:
        """A machine by name, of one of ``kinds`` if any are given. Raises UnknownName."""
        wanted = self.of_kind(*(kinds or Kind))
        for machine in wanted:
            if machine.name == name:
                return machine
        what = " or ".join(kinds) or "machine"
        known = ", ".join(machine.name for machine in wanted)
        raise UnknownName(f"the lab has no {what} {name!r}; it has {known}")

    def links_of(self, machine: Machine) -> list[tuple[End, End]]:
        """The links of a machine: its own end, and the other."""
        return [found for link in self.links if (found := link.find_far(machine))]

    def get_link(self, one: str, other: str) -> Link:
        """The link between two machines. Raises UnknownName."""
        first, second = self.get_machine(one), self.get_machine(other)
        for link in self.links:
            if {first, second} == {end.machine for end in link.ends}:
                return link
        ends = ", ".join(end.ifname for end, _far in self.links_of(first))
        raise UnknownName(f"there is no link between {one} and {other}; {one} has links to {ends}")

    def router(self, machine: Machine) -> Router:
        """The machine as its routing daemon's configuration is made of it."""
        neighbours = [
            Neighbour(address, far.machine.asn, far.machine.name)
            for _near, far in self.links_of(machine)
            for address in far.addresses
        ]
        return Router(
            name=machine.name,
            role=_ROLES[machine.kind],
            asn=machine.asn,
            loopbacks=machine.loopbacks,
            neighbours=tuple(neighbours),
            # Also where there is no IPv4: a router id only looks like an address.
            router_id=_ROUTER_IDS[machine.number],
        )

    def _machines(self) -> Iterator[Machine]:
        numbers = iter(range(1, _MAX_MACHINES + 1))

        def machine(name: str, kind: Kind, rack: int = 0) -> Machine:
            number = next(numbers)
            loopbacks = tuple(_LOOPBACKS[version][number] for version in self.shape.families)
            asn = _RACK_AS + rack if rack else _SPINE_AS
            return Machine(name, kind, number, asn, f"r{rack}" if rack else "", loopbacks)

        for spine in range(1, self.shape.spines + 1):
            yield machine(f"spine{spine}", Kind.SPINE)
        for rack in range(1, self.shape.racks + 1):
            yield machine(f"tor{rack}", Kind.TOR, rack)
            for node in range(1, self.shape.nodes_per_rack + 1):
                yield machine(f"r{rack}n{node}", Kind.NODE, rack)
        for member in range(1, self.shape.etcd + 1):
            yield machine(f"etcd{member}", Kind.ETCD, (member - 1) % self.shape.racks + 1)

    def _links(self) -> Iterator[Link]:
        tors = self.of_kind(Kind.TOR)
        pairs = [(spine, tor) for spine in self.of_kind(Kind.SPINE) for tor in tors]
        hosts = self.of_kind(Kind.NODE, Kind.ETCD)
        pairs += [(tor, host) for tor in tors for host in hosts if host.rack == tor.rack]
        for number, (upper, lower) in enumerate(pairs):
            yield Link(self._end(upper, lower, 2 * number), self._end(lower, upper, 2 * number + 1))

    def _end(self, machine: Machine, far: Machine, place: int) -> End:
        """``place``: which address of the links' networks, pairs by RFC 3021 and RFC 6164."""
        addresses = tuple(_LINKS[version][place] for version in self.shape.families)
        return End(machine, far.name, addresses)
