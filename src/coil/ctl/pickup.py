"""Whether this node's routing daemon picked block routes up, as ``coilctl explain`` tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import click

from coil.domain.errors import RequestError
from coil.routing.gobgp import API as GOBGP_API
from coil.speakers import bird, frr
from coil.speakers.errors import SpeakerError, SpeakerUnavailable
from coil.speakers.pickup import Network, Pickup

Command = TypeVar("Command", bound=Callable[..., object])


def _ask_gobgp(place: str, networks: Sequence[Network]) -> list[Pickup]:
    from coil.speakers import gobgp  # and with it gRPC: a tenth of this program's start

    return gobgp.find_pickups(place, networks)


_ASK: dict[str, Callable[[str, Sequence[Network]], list[Pickup]]] = {
    "BIRD": lambda socket, networks: bird.find_pickups(Path(socket), networks),
    "FRR": lambda socket, networks: frr.find_pickups(Path(socket), networks),
    "GoBGP": _ask_gobgp,
}
_PLACES = {
    "BIRD": ("bird-socket", str(bird.DEFAULT_SOCKET)),
    "FRR": ("frr-socket", str(frr.DEFAULT_SOCKET)),
    "GoBGP": ("gobgp", GOBGP_API),
}
"""Option that says where each is asked, and its default."""


def socket_options(command: Command) -> Command:
    """Add --bird-socket, --frr-socket and --gobgp."""
    for daemon, (option, default) in _PLACES.items():
        variable = f"COIL_{option.upper().replace('-', '_')}"
        command = click.option(
            f"--{option}",
            default=default,
            envvar=variable,
            help=f"Where {daemon} is asked. [env {variable}; default {default}]",
        )(command)
    return command


def find_pickup(texts: Sequence[str], places: dict[str, str]) -> dict[str, object]:
    """What the daemon that answers did with these networks, for printing.

    ``places``: where each daemon would be, by the name of its option. None of them running is an
    answer like any other.
    """
    networks = [_network(text) for text in texts]
    reasons = []
    for daemon, (option, _default) in _PLACES.items():
        try:
            found = _ASK[daemon](places[option.replace("-", "_")], networks)
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
        how = "does coil-gobgp run" if daemon == "GoBGP" else "does it import coild's export table"
        return f"{daemon} has not learnt {', '.join(missing)}: {how}?"
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
