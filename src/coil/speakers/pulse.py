"""Which routing daemons died or hang, and left the routes they made in the kernel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from coil.speakers import bird, frr
from coil.speakers.errors import SpeakerRefused, SpeakerUnavailable

_SECONDS = 1.0
"""To answer in. Whoever asks does so again and again before it makes anything of a silence."""
# rtm_protocol of the routes they make: linux/rtnetlink.h, RTPROT_*.
_RTPROT_BIRD, _RTPROT_BGP = 12, 186
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client begins with, and an empty SETTINGS frame (RFC 9113, 3.4); any server answers."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where the routing daemons of this machine are asked, if they run."""

    bird: Path = bird.DEFAULT_SOCKET
    frr: Path = frr.DEFAULT_SOCKET
    """bgpd's, of FRR."""
    gobgp: str = ""
    """HOST:PORT or unix:PATH of gobgpd; empty: it is none of this machine's."""


def find_silent(sockets: Sockets) -> frozenset[int]:
    """The kernel's protocol numbers of routes whose daemon does not answer; takes up to 3 s.

    A BIRD or FRR that has no socket never ran here, or ended as it should; it is none of them.
    """
    asked: list[tuple[int, Callable[[], object]]] = []
    if sockets.bird.is_socket():
        asked.append((_RTPROT_BIRD, partial(bird.ask_bird, sockets.bird, seconds=_SECONDS)))
    if sockets.frr.is_socket():
        asked.append((_RTPROT_BGP, partial(frr.ask_bgpd, sockets.frr, seconds=_SECONDS)))
    if sockets.gobgp:
        asked.append((_RTPROT_BGP, partial(_ask_gobgp, sockets.gobgp)))
    answers = [(protocol, _answers(ask)) for protocol, ask in asked]
    # Who made a route is not told apart further: FRR, or coil-gobgp for gobgpd.
    living = {protocol for protocol, answered in answers if answered}
    return frozenset(protocol for protocol, _ in answers) - living


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except SpeakerRefused:
        return True  # that is an answer
    except (SpeakerUnavailable, OSError):
        return False
    return True


def _ask_gobgp(endpoint: str) -> None:
    """Raises OSError when nobody answers."""
    with _connection(endpoint) as sock:
        sock.sendall(_HTTP2_HELLO)
        if not sock.recv(1):
            raise ConnectionResetError(endpoint)


@contextmanager
def _connection(endpoint: str) -> Iterator[socket.socket]:
    path = endpoint.removeprefix("unix:")
    if path == endpoint:
        host, _, port = endpoint.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS) as sock:
            yield sock
        return
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_SECONDS)
        sock.connect(path)
        yield sock
