"""coilctl router-config: the configuration of a routing daemon of the fabric."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address
from typing import Any

import click

from coil.ctl.common import Context, verb
from coil.domain.errors import RequestError
from coil.routing.bird import bird_config
from coil.routing.frr import frr_config
from coil.routing.gobgp import gobgp_config
from coil.routing.model import (
    EXPORT_PROTOCOL,
    EXPORT_TABLE,
    Address,
    Bfd,
    Neighbour,
    Role,
    Router,
    Timers,
)

_WRITERS: dict[str, Callable[[Router], str]] = {
    "bird": bird_config,
    "frr": frr_config,
    "gobgp": gobgp_config,
}
_BFD = Bfd()


_OPTIONS = (
    click.option("--role", type=click.Choice([role.value for role in Role]), default="node",
                 show_default=True, help="What this router is in the fabric."),
    click.option("--name", default="", help="The router's name. [default: the host's]"),
    click.option("--asn", type=int, required=True,
                 help="Its AS number. ToRs and nodes of one rack share one."),
    click.option("--loopback", "loopbacks", multiple=True, metavar="ADDRESS",
                 help="Address of lo by which the fabric knows it; one a family."),
    click.option("--router-id", default="", help="[default: the IPv4 loopback]"),
    click.option("--neighbour", "neighbours", multiple=True, required=True,
                 metavar="ADDRESS,ASN[,NAME]",
                 help="Other end of a link: its address there and its AS. Repeat for each."),
    click.option("--export-table", type=int, default=EXPORT_TABLE, show_default=True,
                 help="As coild's --export-table."),
    click.option("--protocol", type=int, default=EXPORT_PROTOCOL, show_default=True,
                 help="As coild's --protocol."),
    click.option("--bfd/--no-bfd", default=None,
                 help="Notice lost links at once; the neighbours must speak BFD, too. "
                      "[default: bfd; for gobgp no-bfd: only GoBGP 4.8 and later have it]"),
    click.option("--bfd-interval", type=int, default=_BFD.interval_ms, show_default=True,
                 metavar="MS"),
    click.option("--bfd-multiplier", type=int, default=_BFD.multiplier, show_default=True),
    click.option("--hold", type=int, default=Timers().hold, show_default=True,
                 help="Seconds until BGP itself gives up a silent neighbour."),
    click.option("--aggregates", default="", metavar="FILE",
                 help="ToR, BIRD: announce what coil-aggregates writes to this file."),
)  # fmt: skip


def add_to(group: click.Group) -> None:
    """Make ``router-config`` a command of ``group``."""

    def router_config(context: Context, daemon: str, **options: Any) -> None:
        """Print a working configuration of BIRD 2, FRR 8.4 or GoBGP for this router.

        A node announces the blocks that coild exports. See docs/routing.md.
        """
        del context
        if options["bfd"] is None:
            options["bfd"] = daemon != "gobgp"  # Debian 12's does not start with it
        click.echo(_WRITERS[daemon](_read_router(options)), nl=False)

    command = click.argument("daemon", type=click.Choice(list(_WRITERS)))(router_config)
    for option in reversed(_OPTIONS):
        command = option(command)
    verb(group, "router-config")(command)


def _read_router(options: dict[str, Any]) -> Router:
    """A router out of the command's options. Raises ConfigError, RequestError."""
    hold = options["hold"]
    bfd = Bfd(options["bfd_interval"], options["bfd_multiplier"]) if options["bfd"] else None
    return Router(
        name=options["name"] or socket.gethostname(),
        role=Role(options["role"]),
        asn=options["asn"],
        loopbacks=tuple(_read_address("--loopback", text) for text in options["loopbacks"]),
        neighbours=tuple(map(_read_neighbour, options["neighbours"])),
        router_id=_read_router_id(options["router_id"]),
        bfd=bfd,
        timers=Timers(keepalive=max(1, hold // 3), hold=hold),
        export_table=options["export_table"],
        protocol=options["protocol"],
        aggregates=options["aggregates"],
    )


def _read_address(option: str, text: str) -> Address:
    try:
        found = ip_address(text)
    except ValueError as exc:
        raise RequestError(
            f"{option} {text!r} is not an address; write it like 10.0.0.1 or fd00::1"
        ) from exc
    if "%" in text:
        raise RequestError(f"{option} {text!r} names an interface; give a global address")
    return found


def _read_router_id(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text) if text else None
    except ValueError as exc:
        raise RequestError(f"--router-id {text!r} is not of the form 10.0.0.1") from exc


def _read_neighbour(text: str) -> Neighbour:
    address, _, rest = text.partition(",")
    asn, _, name = rest.partition(",")
    if not asn.isdecimal():
        raise RequestError(
            f"--neighbour {text!r} must be ADDRESS,ASN or ADDRESS,ASN,NAME, such as "
            "10.9.0.0,65001,tor1"
        )
    return Neighbour(_read_address("--neighbour", address), int(asn), name)
