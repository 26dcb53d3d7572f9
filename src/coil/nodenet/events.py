"""Netlink events that may concern us: something was deleted, or a link went down.

A socket filter drops all else in the kernel: a node that learns a full table by BGP must not wake
coild for each route.
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

_GROUPS = (1, 5, 7, 8, 9, 11, 19)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE."""
_SO_ATTACH_FILTER = 26
_LOAD_BYTE, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x30, 0x15, 0x45, 0x06
_TYPE_AT = 4  # low byte of nlmsg_type (little-endian machines: all that coil is built for)
_TABLE_AT = 16 + 4  # rtm_table
_FLAGS_AT = 16 + 8  # low byte of ifi_flags
_RT_TABLE_COMPAT = 252
"""What rtm_table says of a table above 255."""
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: a link or a route of ours that is gone (or down), or neither to be told."""

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
        if kind == m.RTM_DELROUTE:
            return Event(route=parse_route(payload))
        return Event()


def _attach_filter(sock: socket.socket, tables: Tables) -> None:
    """Classic BPF: accept deletions (of routes: in our tables) and links that are not up."""
    pod, export = (
        table if table < 256 else _RT_TABLE_COMPAT
        for table in (tables.pod_table, tables.export_table)
    )
    # Jumps count instructions from the next one on; the comments number the lines.
    program = (
        (_LOAD_BYTE, 0, 0, _TYPE_AT),  # 0
        (_JUMP_EQUAL, 9, 0, m.RTM_DELLINK),  # 1 -> 11
        (_JUMP_EQUAL, 8, 0, m.RTM_DELADDR),  # 2 -> 11
        (_JUMP_EQUAL, 7, 0, m.RTM_DELRULE),  # 3 -> 11
        (_JUMP_EQUAL, 3, 0, m.RTM_DELROUTE),  # 4 -> 8
        (_JUMP_EQUAL, 0, 6, m.RTM_NEWLINK),  # 5 -> 6 or 12
        (_LOAD_BYTE, 0, 0, _FLAGS_AT),  # 6
        (_JUMP_SET, 4, 3, m.IFF_UP),  # 7 -> 12 or 11
        (_LOAD_BYTE, 0, 0, _TABLE_AT),  # 8
        (_JUMP_EQUAL, 1, 0, pod),  # 9 -> 11
        (_JUMP_EQUAL, 0, 1, export),  # 10 -> 11 or 12
        (_RETURN, 0, 0, 0xFFFFFFFF),  # 11 accept
        (_RETURN, 0, 0, 0),  # 12 drop
    )
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    instructions = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
