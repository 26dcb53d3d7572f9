"""Which addresses answer: by ICMP echo, and by TCP.

Echo needs raw sockets (CAP_NET_RAW) and is left out where they are not allowed. TCP asks every
address that gave no echo. A connection that is refused is an answer, too: somebody refused it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import select
import socket
import struct
import time
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

_ROUNDS = 3
"""A single packet may be lost, and the first to an address may wait for its neighbour entry."""
_ROUND_SECONDS = 0.5
_AT_ONCE = 128
"""Requests in flight: answers must fit the socket's buffer (200 KB, about 250 of them)."""
_TCP_PORT = 10250
"""The kubelet's, which clusters leave open between their machines. Where nothing listens the
kernel refuses, and that will do."""
# RFC 792 and RFC 4443: types of echo request and reply.
_TYPES = {4: (8, 0), 6: (128, 129)}
_PROTOCOLS = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_HEADER = struct.Struct("!BBHHH")


async def find_answering(addresses: Collection[Address]) -> set[Address]:
    """Those that answered, after at most 2 seconds for each hundred addresses."""
    echoed = await asyncio.to_thread(_find_echoing, addresses)
    return echoed | await _find_connecting(set(addresses) - echoed)


def _find_echoing(addresses: Collection[Address]) -> set[Address]:
    found: set[Address] = set()
    for version in (4, 6):
        wanted = [address for address in addresses if address.version == version]
        if not wanted:
            continue
        # No permission, or a kernel without this family.
        with contextlib.suppress(OSError), _open(version) as sock:
            for begin in range(0, len(wanted), _AT_ONCE):
                found |= _echo(sock, version, set(wanted[begin : begin + _AT_ONCE]))
    return found


def _open(version: int) -> socket.socket:
    return socket.socket(
        _FAMILIES[version], socket.SOCK_RAW | socket.SOCK_NONBLOCK, _PROTOCOLS[version]
    )


def _echo(sock: socket.socket, version: int, wanted: set[Address]) -> set[Address]:
    token = secrets.token_bytes(16)
    found: set[Address] = set()
    for number in range(_ROUNDS):
        for address in wanted - found:
            with contextlib.suppress(OSError):  # no route to it, for example
                sock.sendto(_request(version, number, token), (str(address), 0))
        deadline = time.monotonic() + _ROUND_SECONDS
        while found != wanted and (left := deadline - time.monotonic()) > 0:
            if select.select([sock], [], [], left)[0]:
                found |= _receive(sock, version, token) & wanted
    return found


def _request(version: int, number: int, token: bytes) -> bytes:
    kind = _TYPES[version][0]
    without = _HEADER.pack(kind, 0, 0, 0, number) + token
    # The kernel fills in the checksum of ICMPv6 (RFC 3542, 3.1) and leaves that of ICMP to us.
    return _HEADER.pack(kind, 0, _checksum(without), 0, number) + token


def _checksum(data: bytes) -> int:
    """RFC 1071; ``data`` is of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _receive(sock: socket.socket, version: int, token: bytes) -> set[Address]:
    """Whose answer this is, if it is one to us: the socket gets everybody's."""
    try:
        data, sender = sock.recvfrom(2048)
    except OSError:
        return set()
    # An IPv4 raw socket shows the IP header (raw(7)), an IPv6 one does not.
    begin = (data[0] & 0xF) * 4 if version == 4 and data else 0
    answer = data[begin:]
    if answer[:1] != bytes([_TYPES[version][1]]) or answer[_HEADER.size :] != token:
        return set()
    return {ip_address(sender[0].partition("%")[0])}


async def _find_connecting(addresses: Collection[Address]) -> set[Address]:
    found: set[Address] = set()
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(address: Address) -> None:
        async with slots:
            if await _connects(address):
                found.add(address)

    async with asyncio.TaskGroup() as group:
        for address in addresses:
            group.create_task(ask(address))
    return found


async def _connects(address: Address) -> bool:
    sock = socket.socket(_FAMILIES[address.version], socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with sock:
        try:
            async with asyncio.timeout(_ROUND_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, (str(address), _TCP_PORT))
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
    return True
