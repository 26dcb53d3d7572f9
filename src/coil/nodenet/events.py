"""Netlink events that may concern us.

Something was deleted, a link went down, somebody else wrote into our tables, or a setting of all
links (forwarding) changed. A socket filter drops all else in the kernel: a node that learns a full
table by BGP must not wake coild for each route, nor must what coild makes itself.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from coil.nodenet import messages as m
from coil.nodenet.netlink import split
from coil.nodenet.parse import Link, Route, parse_link, parse_route
from coil.nodenet.plan import Tables

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
_FLAGS_AT = 16 + 8  # low byte of ifi_flags
_RT_TABLE_COMPAT = 252
"""What rtm_table says of a table above 255."""
_INSTRUCTION = struct.Struct("=HBBI")  # sock_filter (linux/filter.h)
_Line = tuple[str, int, int, str, str]
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: to which link or route, or to something else (neither)."""

    link: Link | None = None
    route: Route | None = None


class EventSocket:
    """Subscribed to the namespace of the calling thread; readable when something happened."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        _attach_filter(self._socket, tables)
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

    def _event(self, kind: int, payload: bytes) -> Event:
        if kind in (m.RTM_NEWLINK, m.RTM_DELLINK):
            return Event(link=parse_link(payload))
        if kind in (m.RTM_NEWROUTE, m.RTM_DELROUTE):
            return Event(route=parse_route(payload))
        return Event()


def _attach_filter(sock: socket.socket, tables: Tables) -> None:
    """Classic BPF that accepts what the module says."""
    code = _assemble(_program(tables))
    instructions = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(instructions))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def _program(tables: Tables) -> list[_Line]:
    """Lines of (label, operation, operand, where to go if true, where if not); "" is the next."""
    pod, export = (
        table if table < 256 else _RT_TABLE_COMPAT
        for table in (tables.pod_table, tables.export_table)
    )
    return [
        ("", _LOAD_BYTE, _TYPE_AT, "", ""),
        ("", _JUMP_EQUAL, m.RTM_DELLINK, "accept", ""),
        ("", _JUMP_EQUAL, m.RTM_DELADDR, "accept", ""),
        ("", _JUMP_EQUAL, m.RTM_DELRULE, "accept", ""),
        ("", _JUMP_EQUAL, m.RTM_DELROUTE, "table", ""),
        ("", _JUMP_EQUAL, m.RTM_NEWROUTE, "protocol", ""),
        ("", _JUMP_EQUAL, m.RTM_NEWNETCONF, "netconf", ""),
        ("", _JUMP_EQUAL, m.RTM_NEWLINK, "", "drop"),
        ("", _LOAD_BYTE, _FLAGS_AT, "", ""),
        ("", _JUMP_SET, m.IFF_UP, "drop", "accept"),
        ("protocol", _LOAD_BYTE, _PROTOCOL_AT, "", ""),
        ("", _JUMP_EQUAL, tables.protocol, "drop", "table"),
        ("table", _LOAD_BYTE, _TABLE_AT, "", ""),
        ("", _JUMP_EQUAL, pod, "accept", ""),
        ("", _JUMP_EQUAL, export, "accept", "drop"),
        ("netconf", _LOAD_WORD, _NETCONF_IFINDEX_AT, "", ""),
        ("", _JUMP_EQUAL, _NETCONF_ALL, "accept", "drop"),
        ("accept", _RETURN, 0xFFFFFFFF, "", ""),
        ("drop", _RETURN, 0, "", ""),
    ]


def _assemble(program: list[_Line]) -> bytes:
    places = {line[0]: place for place, line in enumerate(program) if line[0]}

    def jump(label: str, place: int) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        _INSTRUCTION.pack(operation, jump(yes, place), jump(no, place), operand)
        for place, (_label, operation, operand, yes, no) in enumerate(program)
    )
