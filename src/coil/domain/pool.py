"""Pools: named sets of subnets, cut into blocks of one size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import pairwise

from coil.domain.block import Block
from coil.domain.errors import InvalidPool, SubnetOverlap
from coil.domain.names import PoolName

DEFAULT_BLOCK_SIZE_LOG2 = 5
DEFAULT_COOL_DOWN = 130
"""Seconds. Connection tracking elsewhere remembers a SYN to an address for 120 s
(nf_conntrack_tcp_timeout_syn_sent), so an address rests a little longer before another pod has it.
"""
MAX_BLOCK_SIZE_LOG2 = 16
"""65,536 addresses: more than one node can use, and a bound on the memory a block costs coild."""
MAX_COOL_DOWN = 86_400

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Subnet:
    """What one block is cut from: an IPv4 network, an IPv6 network, or a pair of equal size."""

    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None

    def __post_init__(self) -> None:
        if self.ipv4 is None and self.ipv6 is None:
            raise InvalidPool("a subnet needs an IPv4 or an IPv6 network")
        if self.ipv4 and self.ipv6 and self.ipv4.num_addresses != self.ipv6.num_addresses:
            bits = self.ipv6.max_prefixlen - self.host_bits
            raise InvalidPool(
                f"the halves of a dual-stack subnet must be of equal size: {self.ipv4} has "
                f"{self.ipv4.num_addresses} addresses, {self.ipv6} has not; use a /{bits} for IPv6"
            )
        for network in self.networks:
            _check_network(network)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The one or two networks, IPv4 first."""
        return tuple(n for n in (self.ipv4, self.ipv6) if n is not None)

    @property
    def host_bits(self) -> int:
        """Base-2 logarithm of the number of addresses."""
        network = self.networks[0]
        return network.max_prefixlen - network.prefixlen

    @property
    def families(self) -> tuple[int, ...]:
        """(4,), (6,) or (4, 6)."""
        return tuple(n.version for n in self.networks)

    def overlaps(self, other: Subnet) -> bool:
        """Whether any address is in both."""
        return any(
            mine.version == theirs.version and mine.overlaps(theirs)
            for mine in self.networks
            for theirs in other.networks
        )

    def __str__(self) -> str:
        return ",".join(map(str, self.networks))


def parse_subnet(text: str) -> Subnet:
    """Read ``10.0.0.0/16``, ``fd00::/112`` or ``10.0.0.0/16,fd00::/112``. Raises InvalidPool."""
    parts = [part.strip() for part in text.split(",")]
    ipv4: list[IPv4Network] = []
    ipv6: list[IPv6Network] = []
    for part in parts:
        network = _parse_network(part)
        if isinstance(network, IPv4Network):
            ipv4.append(network)
        else:
            ipv6.append(network)
    if len(ipv4) > 1 or len(ipv6) > 1:
        raise InvalidPool(
            f"subnet {text!r} names two networks of one family; a comma joins the IPv4 and the "
            "IPv6 half of a dual-stack subnet, further subnets are separate arguments"
        )
    return Subnet(ipv4[0] if ipv4 else None, ipv6[0] if ipv6 else None)


@dataclass(frozen=True, slots=True)
class Pool:
    """A named, append-only list of subnets. Blocks are numbered across them from 0."""

    name: PoolName
    subnets: tuple[Subnet, ...]
    block_size_log2: int = DEFAULT_BLOCK_SIZE_LOG2
    cool_down: int = DEFAULT_COOL_DOWN
    """Seconds an address rests after its pod has gone."""
    cordoned: bool = False
    """A cordoned pool gives neither blocks nor addresses; what is in use stays."""

    def __post_init__(self) -> None:
        if not 0 <= self.block_size_log2 <= MAX_BLOCK_SIZE_LOG2:
            raise InvalidPool(f"block bits must be 0 to {MAX_BLOCK_SIZE_LOG2}")
        if not 0 <= self.cool_down <= MAX_COOL_DOWN:
            raise InvalidPool(f"cool-down must be 0 to {MAX_COOL_DOWN} seconds")
        if not self.subnets:
            raise InvalidPool(f"pool {self.name} needs a subnet")
        for subnet in self.subnets:
            self._check_subnet(subnet)
        check_overlap(self.subnets)

    def _check_subnet(self, subnet: Subnet) -> None:
        if subnet.host_bits < self.block_size_log2:
            raise InvalidPool(
                f"subnet {subnet} is smaller than one block of {self.block_size} addresses; "
                f"use at most {subnet.host_bits} block bits"
            )
        if subnet.families != self.families:
            raise InvalidPool(
                f"subnet {subnet} must have the same address families as {self.subnets[0]}"
            )

    @property
    def families(self) -> tuple[int, ...]:
        """(4,), (6,) or (4, 6): what every attachment of this pool gets."""
        return self.subnets[0].families

    @property
    def block_size(self) -> int:
        """Addresses in a block (per family)."""
        return 1 << self.block_size_log2

    @property
    def block_count(self) -> int:
        """How many blocks all subnets hold together."""
        return sum(self._blocks_in(subnet) for subnet in self.subnets)

    def _blocks_in(self, subnet: Subnet) -> int:
        return 1 << (subnet.host_bits - self.block_size_log2)

    def block(self, index: int) -> Block:
        """The block of that index. Raises InvalidPool when the pool has no such block."""
        rest = index
        for subnet in self.subnets:
            if 0 <= rest < self._blocks_in(subnet):
                return self._cut(subnet, index, rest * self.block_size)
            rest -= self._blocks_in(subnet)
        raise InvalidPool(f"pool {self.name} has no block {index}: it has {self.block_count}")

    def _cut(self, subnet: Subnet, index: int, offset: int) -> Block:
        v4, v6, size = subnet.ipv4, subnet.ipv6, self.block_size_log2
        return Block(
            self.name,
            index,
            IPv4Network((int(v4.network_address) + offset, 32 - size)) if v4 else None,
            IPv6Network((int(v6.network_address) + offset, 128 - size)) if v6 else None,
        )

    def find_block(self, address: Address) -> Block | None:
        """The block that holds ``address``, or None when no subnet does."""
        first = 0
        for subnet in self.subnets:
            for network in subnet.networks:
                if address.version == network.version and address in network:
                    inside = int(address) - int(network.network_address)
                    return self.block(first + (inside >> self.block_size_log2))
            first += self._blocks_in(subnet)
        return None

    def extended(self, subnet: Subnet) -> Pool:
        """This pool with one more subnet at its end. Raises InvalidPool or SubnetOverlap."""
        return replace(self, subnets=(*self.subnets, subnet))


def check_overlap(subnets: Iterable[Subnet]) -> None:
    """Raise SubnetOverlap when any two share an address. n log n: pools can have many subnets."""
    networks = sorted(
        (network for subnet in subnets for network in subnet.networks),
        key=lambda n: (n.version, int(n.network_address), n.prefixlen),
    )
    # Aligned networks are nested or apart: sorted, an overlap always shows between neighbours.
    for low, high in pairwise(networks):
        if low.version == high.version and low.overlaps(high):
            raise SubnetOverlap(
                f"subnet {high} overlaps {low}; all subnets of all pools must be apart"
            )


def _parse_network(text: str) -> Network:
    if "%" in text:
        raise InvalidPool(f"{text!r} is not a subnet: an interface has no place in it")
    try:
        return ip_network(text)
    except ValueError as exc:
        hint = ""
        try:
            hint = f"; did you mean {ip_network(text, strict=False)}?"
        except ValueError:
            hint = "; write it like 10.64.0.0/16 or fd00:64::/112"
        raise InvalidPool(f"{text!r} is not a subnet{hint}") from exc


def _check_network(network: Network) -> None:
    """Refuse what can never be a pod's address."""
    unusable = _UNUSABLE_IPV4 if isinstance(network, IPv4Network) else _UNUSABLE_IPV6
    if any(network.overlaps(special) for special in unusable):
        raise InvalidPool(
            f"subnet {network} is (or holds) loopback, link-local, multicast or reserved "
            "addresses, which pods cannot have"
        )


# Class E, 240.0.0.0/4, is left out on purpose: Linux routes it, and it is used for pods.
_UNUSABLE_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # RFC 1122, 3.2.1.3: "this host"
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
    )
)
_UNUSABLE_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "::/96",  # unspecified, loopback and the deprecated compatible addresses
        "::ffff:0:0/96",  # IPv4 in IPv6 clothes, never on a wire (RFC 4291, 2.5.5.2)
        "fe80::/10",
        "ff00::/8",
    )
)
