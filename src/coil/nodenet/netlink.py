"""Raw rtnetlink: messages out, answers in. See adr/0002 for why this is ours.

Layout of messages: RFC 3549 and the kernel's uapi headers linux/netlink.h, linux/rtnetlink.h.
A request of several messages is one system call; the kernel works them off in order, also past
one that fails, and answers once: to the last, and to those that failed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from coil.nodenet.errors import DumpInterrupted, KernelRefused

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ASKED = NLM_F_REQUEST | NLM_F_ACK
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0xA
_SIOCGIFINDEX = 0x8933
_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_ATTR_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")
_RECEIVE_BYTES = 1 << 16
_ANSWER_SECONDS = 10
"""Answers to requests are queued before send() returns; this bounds a kernel that never answers."""
_DUMP_ATTEMPTS = 10


class Message(NamedTuple):
    """One request: what it does (for error texts), its type, body and flags, and what may fail.

    A NamedTuple, and its words joined only when it failed, because an ADD makes twenty.
    """

    operation: str
    type: int
    body: bytes
    flags: int = 0
    tolerated: frozenset[int] = frozenset()
    """errno values that mean success here, such as ENOENT for a removal."""
    subject: object = ""
    """What it is done to."""

    def refused(self, code: int, reason: str = "") -> KernelRefused:
        """The error for this message's failure."""
        return KernelRefused(f"{self.operation} {self.subject}".rstrip(), code, reason)


def attribute(kind: int, data: bytes) -> bytes:
    """Encode one attribute, padded to 4 bytes."""
    return _ATTR.pack(len(data) + 4, kind) + data + _PAD[len(data) & 3]


def attribute_u32(kind: int, value: int) -> bytes:
    """Encode an attribute of one unsigned 32-bit number in host order."""
    return struct.pack("=HHI", 8, kind, value)


def attribute_text(kind: int, text: str) -> bytes:
    """Encode a NUL-terminated string attribute."""
    return attribute(kind, text.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Decode the attributes of ``data`` from ``offset``; of one kind the last counts."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _ATTR_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def find_attribute(data: bytes, offset: int, kind: int) -> bytes | None:
    """The first attribute of one kind in ``data`` from ``offset``."""
    end = len(data)
    while offset + 4 <= end:
        length, found = _ATTR.unpack_from(data, offset)
        if found & _ATTR_TYPE_MASK == kind:
            return data[offset + 4 : offset + length]
        offset += max((length + 3) & ~3, 4)
    return None


def without_attributes(data: bytes, offset: int, kinds: frozenset[int]) -> bytes:
    """``data`` less the first attribute of each of ``kinds`` (none nested) from ``offset``."""
    kept: list[bytes] = []
    begin, end = 0, len(data)
    while offset + 4 <= end and len(kept) < len(kinds):
        length, kind = _ATTR.unpack_from(data, offset)
        after = offset + max((length + 3) & ~3, 4)
        if kind in kinds:
            kept.append(data[begin:offset])
            begin = after
        offset = after
    return b"".join((*kept, data[begin:]))


class NetlinkSocket:
    """An rtnetlink socket of the network namespace the calling thread is in when it is made.

    Not thread-safe. Raises KernelRefused for what the kernel refuses.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        # Not settimeout(): that costs two more system calls for each send and receive.
        seconds = struct.pack("@ll", _ANSWER_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def close(self) -> None:
        """Close; idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def send(self, *messages: Message) -> None:
        """Carry out all messages in order; raise KernelRefused for the first that failed.

        Messages after a failed one have been tried as well.
        """
        for message, (code, reason) in zip(messages, self.try_send(messages), strict=True):
            if code and code not in message.tolerated:
                raise message.refused(code, reason)

    def try_send(self, messages: Sequence[Message]) -> list[tuple[int, str]]:
        """Carry out all messages; return for each its errno (0: done) and the kernel's reason."""
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(messages)
        parts: list[bytes] = []
        for sequence, message in enumerate(messages, first):
            length = _HEADER.size + len(message.body)
            # The kernel tells of each that failed unasked, and before it acknowledges a later one.
            flags = message.flags | (_ASKED if sequence == last else NLM_F_REQUEST)
            parts.append(_HEADER.pack(length, message.type, flags, sequence, 0))
            parts.append(message.body)
            parts.append(_PAD[length & 3])
        self._socket.send(b"".join(parts))
        outcomes = [(0, "")] * len(messages)
        answered = 0
        while answered != last:
            for kind, flags, answered, payload in self._receive(messages[0].operation):
                if kind == _NLMSG_ERROR and first <= answered <= last:
                    outcomes[answered - first] = _outcome(flags, payload)
        return outcomes

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """All objects the kernel lists for ``message``: pairs of message type and payload.

        Repeated while the kernel says that its tables changed meanwhile. Raises DumpInterrupted,
        KernelRefused.
        """
        for _attempt in range(_DUMP_ATTEMPTS):
            found = self._dump_once(message)
            if found is not None:
                return found
        raise DumpInterrupted(f"tables kept changing during {message.operation}")

    def _dump_once(self, message: Message) -> list[tuple[int, bytes]] | None:
        self._sequence += 1
        wanted = self._sequence
        flags = NLM_F_REQUEST | NLM_F_DUMP | message.flags
        header = _HEADER.pack(
            _HEADER.size + len(message.body), message.type, flags, self._sequence, 0
        )
        self._socket.send(header + message.body)
        found: list[tuple[int, bytes]] = []
        interrupted = False
        while True:
            for kind, flags, sequence, payload in self._receive(message.operation):
                if sequence != wanted:
                    continue
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    self._check_end(message, payload)
                    return None if interrupted else found
                found.append((kind, payload))

    @staticmethod
    def _check_end(message: Message, payload: bytes) -> None:
        code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
        if code and code not in message.tolerated:
            raise message.refused(code)

    def get(self, message: Message) -> bytes | None:
        """The one object the kernel answers ``message`` with, or None for a tolerated error."""
        self._sequence += 1
        wanted = self._sequence
        header = _HEADER.pack(
            _HEADER.size + len(message.body), message.type, NLM_F_REQUEST, self._sequence, 0
        )
        self._socket.send(header + message.body)
        while True:
            for kind, flags, sequence, payload in self._receive(message.operation):
                if sequence != wanted:
                    continue
                if kind != _NLMSG_ERROR:
                    return payload
                code, reason = _outcome(flags, payload)
                if code in message.tolerated:
                    return None
                raise message.refused(code, reason)

    def find_ifindex(self, name: str) -> int | None:
        """Index of the link of that name in this socket's namespace (netdevice(7))."""
        request = struct.pack("16s24x", name.encode())
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFINDEX, request)
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                return None
            raise KernelRefused(f"look up link {name}", exc.errno or errno.EIO) from exc
        return int(struct.unpack_from("=i", answer, 16)[0])

    def settle_carrier(self, name: str) -> None:
        """Have the kernel act now on a carrier that a link has just got; fine when it is gone.

        Else a worker of the kernel does so in its time, and what the link sends until then is
        dropped: on a busy host a lost answer to ARP costs a pod its first second, and where both
        ends of a pair have the same index, which is then taken for no pair, it is always late.
        Asking ethtool whether the link carries does it (ethtool_op_get_link() in
        net/ethtool/ioctl.c; linkwatch_urgent_event() in net/core/link_watch.c).
        """
        value = array("I", (_ETHTOOL_GLINK, 0))
        request = struct.pack("16sQ16x", name.encode(), value.buffer_info()[0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._socket, _SIOCETHTOOL, request)

    def _receive(self, operation: str) -> Iterator[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as exc:
            raise KernelRefused(operation, errno.ETIMEDOUT) from exc
        except OSError as exc:
            raise KernelRefused(operation, exc.errno or errno.EIO) from exc
        yield from split(data)


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split what was received into (type, flags, sequence, payload)."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _outcome(flags: int, payload: bytes) -> tuple[int, str]:
    """Read nlmsgerr: errno, the request's header (capped), extended reason."""
    code = -struct.unpack_from("=i", payload)[0]
    if not code or not flags & _NLM_F_ACK_TLVS:
        return code, ""
    start = 4 + _HEADER.size
    if not flags & _NLM_F_CAPPED:
        start = 4 + ((struct.unpack_from("=I", payload, 4)[0] + 3) & ~3)
    reason = attributes(payload, start).get(_NLMSGERR_ATTR_MSG, b"")
    return code, reason.rstrip(b"\0").decode(errors="replace")
