"""FRR's bgpd, asked on the socket that vtysh uses.

A command ends with a NUL, an answer with three NULs and a byte that is 0 when all went well
(FRR's lib/vty.c, vtysh_read).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from coil.speakers.errors import SpeakerRefused
from coil.speakers.pickup import Network, Pickup
from coil.speakers.unix import SECONDS, conversation

DEFAULT_SOCKET = Path("/run/frr/bgpd.vty")
_END = b"\0\0\0"


def ask_bgpd(socket: Path, *commands: str, seconds: float = SECONDS) -> list[str]:
    """Give commands and return the answers. Raises SpeakerUnavailable, SpeakerRefused."""
    answers = []
    with conversation(socket, "FRR's bgpd", seconds) as bgpd:
        for command in ("enable", *commands):
            bgpd.say(command, b"\0")
            answer = bgpd.hear(_end_of_answer)
            if answer[-1]:
                raise SpeakerRefused(f"FRR's bgpd refused {command!r}")
            answers.append(answer[: -len(_END) - 1].decode(errors="replace"))
    return answers[1:]


def _end_of_answer(data: bytes) -> int:
    at = data.find(_END)
    return at + len(_END) + 1 if 0 <= at < len(data) - len(_END) else 0


def find_pickups(socket: Path, networks: Iterable[Network]) -> list[Pickup]:
    """What bgpd did with each of ``networks``."""
    wanted = list(networks)
    answers = ask_bgpd(socket, *(f"show bgp ipv{n.version} unicast {n} json" for n in wanted))
    return [_pickup(n, text) for n, text in zip(wanted, answers, strict=True)]


def _pickup(network: Network, text: str) -> Pickup:
    try:
        match json.loads(text):
            case {"paths": list(paths), **rest} if rest.get("prefix") == str(network):
                told = rest.get("advertisedTo")
                own = any(isinstance(path, dict) and path.get("sourced") for path in paths)
                return Pickup(network, own, tuple(map(str, told)) if isinstance(told, dict) else ())
            case dict():
                return Pickup(network, learnt=False, announced_to=())
    except ValueError:
        pass
    raise SpeakerRefused(f"FRR's bgpd does not tell of {network} in a form we know")
