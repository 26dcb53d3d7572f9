"""Netlink events that may concern us.

Something was deleted, a link went down, somebody else wrote into our tables, or a setting of all
links changed (forwarding, unless it was switched on); for who wants it, links and addresses that
came, too. A socket filter drops all else in the kernel: a node that learns a full table by BGP must
not wake coild for each route, nor must what coild makes itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from coil.nodenet import messages as m
from coil.nodenet.netlink import split
from coil.nodenet.parse import LinkAddress, Route, link_alias, parse_address, parse_route

_GROUPS = (1, 5, 7, 8, 9, 11, 19, 24, 25)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE,
IPV4_NETCONF, IPV6_NETCONF."""
_SO_ATTACH_FILTER = 26
_LOAD_WORD, _LOAD_BYTE, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x30, 0x15, 0x45, 0x06
_TYPE_AT = 4  # low byte of nlmsg_type (little-endian machines: all that coil is built for)
_TABLE_AT = 16 + 4  # rtm_table
_PROTOCOL_AT = 16 + 5  # rtm_protocol
_NETCONF_IFINDEX_AT = 16 + 4 + 4  # the first attribute behind netconfmsg: NETCONFA_IFINDEX
_NETCONF_ALL = 0xFFFFFFFF  # NETCONFA_IFINDEX_ALL (linux/netconf.h)
_NETCONF_KIND_AT = 16 + 4 + 8 + 2  # low byte of nla_type of the second attribute: what changed
_NETCONF_VALUE_AT = 16 + 4 + 8 + 4  # low byte of its value
_NETCONF_FORWARDING = 2  # NETCONFA_FORWARDING
_FLAGS_AT = 16 + 8  # low byte of ifi_flags
_CHANGE_AT = 16 + 12  # low byte of ifi_change
_CHANGE_HIGH_AT = 16 + 15  # high byte of it
_ALL_CHANGED = 0xFF  # what that says of a link just made (register_netdevice())
_RT_TABLE_COMPAT = 252
"""What rtm_table says of a table above 255."""
_INSTRUCTION = struct.Struct("=HBBI")  # sock_filter (linux/filter.h)
_Line = tuple[str, int, int, str, str]
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: to which link, address or route, or to something else (none of them)."""

    link_alias: str | None = None
    address: LinkAddress | None = None
    """One that came."""
    address_gone: bool = False
    """Of those that went no more is told."""
    route: Route | None = None


class EventSocket:
    """Subscribed to the namespace of the calling thread; readable when something happened."""

    def __init__(self, tables: Sequence[int], *, protocol: int, arrivals: bool = False) -> None:
        """``tables`` are ours, and so is what has ``protocol`` in them."""
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        _attach_filter(self._socket, _program(tables, protocol, arrivals=arrivals))
        self._socket.bind((0, sum(1 << (group - 1) for group in _GROUPS)))

    def fileno(self) -> int:
        """For the loop's reader."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close; idempotent."""
        self._socket.close()

    def read(self) -> Iterator[Event]:
        """What is waiting; does not block. An overflow is an event that tells nothing."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                yield Event()
                continue
            for kind, _flags, _sequence, payload in split(data):
                yield self._event(kind, payload)

    async def watch(self, matters: Callable[[Event], bool], wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever something happened that ``matters``, for ever; then close."""

        def read() -> None:
            # All are read, also after one that matters: the socket must be empty.
            if any([matters(event) for event in self.read()]):  # noqa: C419
                wake()

        loop = asyncio.get_running_loop()
        loop.add_reader(self.fileno(), read)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self.fileno())
            self.close()

    def _event(self, kind: int, payload: bytes) -> Event:
        if kind in (m.RTM_NEWLINK, m.RTM_DELLINK):
            return Event(link_alias=link_alias(payload))
        if kind == m.RTM_NEWADDR:
            return Event(address=parse_address(payload))
        if kind == m.RTM_DELADDR:
            return Event(address_gone=True)
        if kind in (m.RTM_NEWROUTE, m.RTM_DELROUTE):
            return Event(route=parse_route(payload))
        return Event()


def _attach_filter(sock: socket.socket, program: list[_Line]) -> None:
    code = _assemble(program)
    instructions = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(instructions))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def _program(tables: Sequence[int], protocol: int, *, arrivals: bool) -> list[_Line]:
    """Classic BPF that accepts what the module says.

    Lines of (label, operation, operand, where to go if true, where if not); "" is the next.
    """
    small = [table if table < 256 else _RT_TABLE_COMPAT for table in tables]
    welcome = [m.RTM_NEWLINK, m.RTM_NEWADDR] if arrivals else []
    gone = [m.RTM_DELLINK, m.RTM_DELADDR, m.RTM_DELRULE]
    return [
        ("", _LOAD_BYTE, _TYPE_AT, "", ""),
        *(("", _JUMP_EQUAL, kind, "accept", "") for kind in (*gone, *welcome)),
        ("", _JUMP_EQUAL, m.RTM_DELROUTE, "table", ""),
        ("", _JUMP_EQUAL, m.RTM_NEWROUTE, "protocol", ""),
        ("", _JUMP_EQUAL, m.RTM_NEWNETCONF, "netconf", ""),
        ("", _JUMP_EQUAL, m.RTM_NEWLINK, "", "drop"),
        ("", _LOAD_BYTE, _FLAGS_AT, "", ""),
        ("", _JUMP_SET, m.IFF_UP, "drop", ""),
        ("", _LOAD_BYTE, _CHANGE_AT, "", ""),
        ("", _JUMP_SET, m.IFF_UP, "", "drop"),
        ("", _LOAD_BYTE, _CHANGE_HIGH_AT, "", ""),
        ("", _JUMP_EQUAL, _ALL_CHANGED, "drop", "accept"),
        ("netconf", _LOAD_WORD, _NETCONF_IFINDEX_AT, "", ""),
        ("", _JUMP_EQUAL, _NETCONF_ALL, "", "drop"),
        ("", _LOAD_BYTE, _NETCONF_KIND_AT, "", ""),
        ("", _JUMP_EQUAL, _NETCONF_FORWARDING, "", "accept"),
        ("", _LOAD_BYTE, _NETCONF_VALUE_AT, "", ""),
        ("", _JUMP_EQUAL, 1, "drop", "accept"),
        ("protocol", _LOAD_BYTE, _PROTOCOL_AT, "", ""),
        ("", _JUMP_EQUAL, protocol, "drop", "table"),
        ("table", _LOAD_BYTE, _TABLE_AT, "", ""),
        *(("", _JUMP_EQUAL, table, "accept", "") for table in small),
        ("drop", _RETURN, 0, "", ""),
        ("accept", _RETURN, 0xFFFFFFFF, "", ""),
    ]


def _assemble(program: list[_Line]) -> bytes:
    places = {line[0]: place for place, line in enumerate(program) if line[0]}

    def jump(label: str, place: int) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        _INSTRUCTION.pack(operation, jump(yes, place), jump(no, place), operand)
        for place, (_label, operation, operand, yes, no) in enumerate(program)
    )
