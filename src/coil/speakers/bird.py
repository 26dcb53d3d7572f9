"""BIRD's control socket: what birdc says, said without it.

A command is a line. An answer is lines that begin with a code of four digits, then a blank in the
last one and a dash in the others; a line that begins with a blank goes on with the code before.
Codes from 8000 on are errors (BIRD's doc/reply_codes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path

from coil.speakers.errors import SpeakerRefused
from coil.speakers.pickup import Network, Pickup
from coil.speakers.unix import SECONDS, Conversation, conversation

DEFAULT_SOCKET = Path("/run/bird/bird.ctl")
_LAST = re.compile(rb"^\d{4} .*\n", re.MULTILINE)
_FIRST_ERROR, _NOT_FOUND = 8000, 8001
_CODE = 5


def ask_bird(socket: Path, *commands: str, seconds: float = SECONDS) -> list[list[str]]:
    """Give commands and return the lines of each answer, without their codes.

    Raises SpeakerUnavailable, SpeakerRefused (the commands after the refused one are not given).
    """
    with conversation(socket, "BIRD", seconds) as bird:
        _hear(bird)  # its greeting
        return [_answer(bird, command) for command in commands]


def _answer(bird: Conversation, command: str) -> list[str]:
    bird.say(command, b"\n")
    lines = _hear(bird)
    last = lines[-1]
    code = int(last[: _CODE - 1])
    if code == _NOT_FOUND:
        return []
    if code >= _FIRST_ERROR:
        raise SpeakerRefused(f"BIRD refused {command!r}: {last[_CODE:]}")
    # Coded lines lose their code, the others the blank (or plus sign) that stands for it.
    return [line[_CODE:] if line[:1].isdigit() else line[1:] for line in lines]


def _hear(bird: Conversation) -> list[str]:
    return bird.hear(_end_of_answer).decode(errors="replace").splitlines()


def _end_of_answer(data: bytes) -> int:
    found = _LAST.search(data)
    return found.end() if found else 0


def list_bird_routes(socket: Path, *conditions: str) -> list[set[Network]]:
    """The networks whose best route fits each condition (a filter expression of BIRD's)."""
    answers = ask_bird(socket, *(f"show route primary where {text}" for text in conditions))
    return [{network for line in lines if (network := _network(line))} for lines in answers]


def configure_bird(socket: Path) -> None:
    """Have BIRD read its configuration again; sessions stay. Raises SpeakerRefused."""
    ask_bird(socket, "configure")


def find_pickups(socket: Path, networks: Iterable[Network]) -> list[Pickup]:
    """What BIRD did with each of ``networks``."""
    wanted = list(networks)
    (protocols,) = ask_bird(socket, "show protocols all")
    sessions = [
        (n, s) for n in wanted for s, version in _sessions(protocols) if version == n.version
    ]
    own = [f"show route {n} primary where source != RTS_BGP" for n in wanted]
    told = [f"show route {n} export {session}" for n, session in sessions]
    shown = [any(map(_network, lines)) for lines in ask_bird(socket, *own, *told)]
    learnt, announced = shown[: len(wanted)], shown[len(wanted) :]
    told_to = [pair for pair, there in zip(sessions, announced, strict=True) if there]
    return [
        Pickup(network, there, tuple(session for n, session in told_to if n == network))
        for network, there in zip(wanted, learnt, strict=True)
    ]


def _sessions(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """BGP sessions and the address families (4, 6) that they are up for."""
    session, version = "", 0
    for line in lines:
        words = line.split()
        if line[:1].strip():
            session, version = (words[0] if words[1:2] == ["BGP"] else ""), 0
        elif words[:1] == ["Channel"]:
            version = {"ipv4": 4, "ipv6": 6}.get(words[-1], 0)
        elif words == ["State:", "UP"] and session and version:
            yield session, version


def _network(line: str) -> Network | None:
    """The network a line of ``show route`` begins with; None for its other lines."""
    word = line.split(" ", 1)[0]
    try:
        return ip_network(word) if "/" in word else None
    except ValueError:
        return None
