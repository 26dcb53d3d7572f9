"""Routes in BGP's own bytes: RFC 4271 (4.3), RFC 4760 for IPv6. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_ORIGIN, _AS_PATH, _NEXT_HOP, _MED, _LOCAL_PREF, _MP_REACH = 1, 2, 3, 4, 5, 14
_TRANSITIVE, _OPTIONAL, _LONG = 0x40, 0x80, 0x10
_AS_SET = 1
_AFI_IP6, _UNICAST = 2, 1
IGP, INCOMPLETE = 0, 2
"""The origin of a route: its router has it from within, or from elsewhere."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What decides between two ways to one destination, and where the way leads."""

    origin: int = INCOMPLETE
    hops: int = 0
    """Length of the AS path."""
    med: int = 0
    local_pref: int | None = None
    """None on a route of another AS: only routers of one AS tell it each other."""
    gateway: Address | None = None

    @property
    def rank(self) -> tuple[int | None, int, int, int]:
        """Ways of the same rank are equally good (RFC 4271, 9.1.2.2)."""
        return self.local_pref, self.hops, self.origin, self.med


def write_network(network: Network) -> bytes:
    """The network as it stands in an update: its length in bits, and as many bytes as it needs."""
    size = (network.prefixlen + 7) // 8
    return bytes([network.prefixlen]) + network.network_address.packed[:size]


def read_network(data: bytes, version: int) -> Network:
    """The other way."""
    size, network = (4, IPv4Network) if version == 4 else (16, IPv6Network)
    return network((data[1:].ljust(size, b"\0"), data[0]))


def write_own(network: Network, origin: int) -> list[bytes]:
    """Attributes of a route of this router itself: no AS, no next hop."""
    first = _attribute(_TRANSITIVE, _ORIGIN, bytes([origin]))
    if network.version == 4:
        return [first, _attribute(_TRANSITIVE, _NEXT_HOP, bytes(4))]
    head = struct.pack("!HBB", _AFI_IP6, _UNICAST, 16)
    reach = head + bytes(16) + b"\0" + write_network(network)
    return [first, _attribute(_OPTIONAL, _MP_REACH, reach)]


def _attribute(flags: int, kind: int, value: bytes) -> bytes:
    return bytes([flags, kind, len(value)]) + value


def read_attributes(encoded: Iterable[bytes]) -> Attributes:
    """Read what we need of a route's attributes."""
    found: dict[int, bytes] = {}
    for data in encoded:
        flags, kind = data[0], data[1]
        found[kind] = data[4:] if flags & _LONG else data[3:]
    local_pref = found.get(_LOCAL_PREF)
    return Attributes(
        origin=found.get(_ORIGIN, bytes([INCOMPLETE]))[0],
        hops=_count_hops(found.get(_AS_PATH, b"")),
        med=int.from_bytes(found.get(_MED, b""), "big"),
        local_pref=None if local_pref is None else int.from_bytes(local_pref, "big"),
        gateway=_find_gateway(found),
    )


def _count_hops(path: bytes) -> int:
    """A set of ASes counts as one (RFC 4271, 9.1.2.2 a). AS numbers have four bytes here."""
    hops = offset = 0
    while offset + 2 <= len(path):
        kind, count = path[offset], path[offset + 1]
        hops += 1 if kind == _AS_SET else count
        offset += 2 + 4 * count
    return hops


def _find_gateway(found: dict[int, bytes]) -> Address | None:
    packed = found.get(_NEXT_HOP)
    if packed is None and (reach := found.get(_MP_REACH)):
        size = reach[3]
        # 32 bytes: a global address and the link-local one behind it (RFC 2545, 3).
        packed = reach[4 : 4 + min(size, 16)]
    if packed is None or len(packed) not in (4, 16):
        return None
    address = ip_address(packed)
    return None if address.is_unspecified else address
