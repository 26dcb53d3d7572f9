"""Whether this node's routing daemon picked block routes up, as ``coilctl explain`` tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import click

from coil.domain.errors import RequestError
from coil.speakers import bird, frr
from coil.speakers.errors import SpeakerError, SpeakerUnavailable
from coil.speakers.pickup import Network, Pickup

Command = TypeVar("Command", bound=Callable[..., object])

_ASK: dict[str, Callable[[Path, Sequence[Network]], list[Pickup]]] = {
    "BIRD": bird.find_pickups,
    "FRR": frr.find_pickups,
}


def socket_options(command: Command) -> Command:
    """Add --bird-socket and --frr-socket."""
    for name, default in (("bird", bird.DEFAULT_SOCKET), ("frr", frr.DEFAULT_SOCKET)):
        command = click.option(
            f"--{name}-socket",
            type=click.Path(path_type=Path),
            default=default,
            envvar=f"COIL_{name.upper()}_SOCKET",
            help=f"Where {name.upper()} is asked. [env COIL_{name.upper()}_SOCKET; "
            f"default {default}]",
        )(command)
    return command


def find_pickup(texts: Sequence[str], sockets: dict[str, Path]) -> dict[str, object]:
    """What the daemon that answers did with these networks, for printing.

    ``sockets``: where each daemon would be. None of them running is an answer like any other.
    """
    networks = [_network(text) for text in texts]
    reasons = []
    for daemon, socket in sockets.items():
        try:
            found = _ASK[daemon](socket, networks)
        except SpeakerUnavailable as exc:
            reasons.append(exc.message)
        except SpeakerError as exc:
            return {"daemon": daemon, "problem": exc.message, "blocks": []}
        else:
            return {"daemon": daemon, "problem": _problem(daemon, found),
                    "blocks": [_shown(pickup) for pickup in found]}  # fmt: skip
    return {"daemon": None, "problem": "; ".join(["no routing daemon", *reasons]), "blocks": []}


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as exc:
        raise RequestError(f"coild names {text!r} as a block, which is no network") from exc


def _problem(daemon: str, found: list[Pickup]) -> str:
    missing = [str(pickup.network) for pickup in found if not pickup.learnt]
    silent = [str(pickup.network) for pickup in found if not pickup.announced_to]
    if missing:
        return f"{daemon} has not learnt {', '.join(missing)}: does it import coild's export table?"
    if silent:
        return f"{daemon} announces {', '.join(silent)} to nobody: is a session up?"
    return ""


def _shown(pickup: Pickup) -> dict[str, object]:
    return {
        "network": str(pickup.network),
        "learnt": pickup.learnt,
        "announced_to": list(pickup.announced_to),
    }


def as_lines(found: dict[str, object]) -> list[str]:
    """The same as sentences, for a table."""
    blocks = found["blocks"]
    lines = [
        f"{block['network']}: {'learnt' if block['learnt'] else 'not learnt'} by "
        f"{found['daemon']}, announced to {', '.join(block['announced_to']) or 'nobody'}"
        for block in (blocks if isinstance(blocks, list) else [])
    ]
    return [*lines, *([str(found["problem"])] if found["problem"] else [])]
