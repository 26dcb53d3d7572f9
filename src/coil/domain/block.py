"""Blocks: aligned slices of a pool's subnet, owned by at most one node, the unit of routing."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.domain.names import NodeName, PoolName

MAX_INDEX = 2**63 - 1
"""The largest block index a store can hold. An IPv6 pool may have more blocks; none gets there."""


@dataclass(frozen=True, slots=True)
class BlockId:
    """Which block: the key of every block in store and journal."""

    pool: PoolName
    index: int

    def __str__(self) -> str:
        return f"{self.pool}/{self.index}"


@dataclass(frozen=True, slots=True)
class Block:
    """A slice of a subnet; a dual-stack block pairs an IPv4 and an IPv6 slice of equal size."""

    pool: PoolName
    index: int
    ipv4: IPv4Network | None
    ipv6: IPv6Network | None

    @property
    def id(self) -> BlockId:
        """The block's key."""
        return BlockId(self.pool, self.index)

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The one or two slices, IPv4 first: what is announced."""
        return tuple(n for n in (self.ipv4, self.ipv6) if n is not None)

    @property
    def size(self) -> int:
        """Addresses per family. The first and the last are usable: nothing here is a LAN."""
        return self.networks[0].num_addresses

    def addresses(self, offset: int) -> tuple[IPv4Address | IPv6Address, ...]:
        """The address (or pair) at ``offset``, 0 <= offset < size. Raises IndexError outside."""
        if not 0 <= offset < self.size:
            raise IndexError(f"block {self.id} has no offset {offset}")
        return tuple(network[offset] for network in self.networks)

    def find_offset(self, address: IPv4Address | IPv6Address) -> int | None:
        """Where ``address`` lies in this block, or None."""
        for network in self.networks:
            if address.version == network.version and address in network:
                return int(address) - int(network.network_address)
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.networks))


@dataclass(frozen=True, slots=True)
class BlockClaim:
    """The store's word on who owns a block. Only the store makes these."""

    id: BlockId
    node: NodeName
    revision: int
    """Changes with every new owner; a release names it, so a late one frees nothing of others."""
