"""What a routing daemon did with a block route."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Pickup:
    """A block's network, as a daemon has it."""

    network: Network
    learnt: bool
    """Whether the daemon has it as a route of this machine's own."""
    announced_to: tuple[str, ...]
    """The sessions it tells it to, as the daemon calls them."""
