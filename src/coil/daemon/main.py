"""The command line of coild."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from coil.daemon import app
from coil.daemon.collect import GcMode
from coil.daemon.settings import DEFAULT_SOCKET, DEFAULT_STATE_DIR, Settings
from coil.daemon.steps import StepHook, no_step
from coil.domain.errors import ConfigError, InvalidName
from coil.domain.names import NodeName, RackName, parse_node_name, parse_rack_name
from coil.nodenet.plan import Tables
from coil.process.supervise import supervise
from coil.program import node_name_option, program, start
from coil.speakers import bird, frr
from coil.speakers.pulse import Sockets
from coil.store.open import DEFAULT_STORE, opened_store

DEFAULT_RACK_FILE = Path("/etc/coil/rack")


@program("coild")
@node_name_option
@click.option(
    "--rack", default="", help="This node's rack. [default: by --rack-label, else --rack-file]"
)
@click.option(
    "--rack-label",
    default="",
    help="Label of this node in Kubernetes that names its rack. [default: none]",
)
@click.option(
    "--rack-file",
    type=click.Path(path_type=Path),
    default=DEFAULT_RACK_FILE,
    show_default=True,
    help="File with the name of this node's rack; it need not be there.",
)
@click.option("--store", default=DEFAULT_STORE, show_default=True, help="URL of the store.")
@click.option(
    "--socket",
    "socket",
    type=click.Path(path_type=Path),
    default=DEFAULT_SOCKET,
    show_default=True,
    help="Unix socket to serve on.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_STATE_DIR,
    show_default=True,
    help="Directory of the journal.",
)
@click.option("--mtu", type=int, default=0, help="MTU of pods. [default: that of the uplink]")
@click.option(
    "--pod-table",
    type=click.IntRange(1, 2**32 - 1),
    default=116,
    show_default=True,
    help="Routing table of pod routes.",
)
@click.option(
    "--rule-priority",
    type=click.IntRange(1, 32765),
    default=2000,
    show_default=True,
    help="Priority of the rule that looks pod routes up.",
)
@click.option(
    "--export-table",
    type=click.IntRange(1, 2**32 - 1),
    default=119,
    show_default=True,
    help="Routing table a routing daemon learns blocks from.",
)
@click.option(
    "--protocol",
    type=click.IntRange(5, 255),
    default=30,
    show_default=True,
    help="Protocol id of our routes.",
)
@click.option(
    "--calico-names/--no-calico-names",
    default=False,
    show_default=True,
    help="Name host links the way Calico's policy engine expects.",
)
@click.option(
    "--gc",
    type=click.Choice([mode.value for mode in GcMode]),
    default="on",
    show_default=True,
    help="What collectors of dead attachments may do.",
)
@click.option(
    "--bird-socket",
    type=click.Path(path_type=Path),
    default=bird.DEFAULT_SOCKET,
    show_default=True,
    help="Where BIRD is asked whether it lives.",
)
@click.option(
    "--frr-socket",
    type=click.Path(path_type=Path),
    default=frr.DEFAULT_SOCKET,
    show_default=True,
    help="Where FRR's bgpd is asked whether it lives.",
)
@click.option(
    "--gobgp",
    default="",
    help="HOST:PORT or unix:PATH where gobgpd is asked whether it lives. [default: not asked]",
)
@click.option("--metrics-addr", default="", help="HOST:PORT for /metrics over TCP. [default: none]")
@click.option(
    "--period",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds between passes of repair, sync and housekeeping.",
)
def main(**options: Any) -> None:
    """Serve the CNI plugin of this node: addresses, links and routes of its pods.

    Every option can be set by COIL_<OPTION> in the environment, too, or in the config file.
    """
    start(options, read_settings, run)


def run(settings: Settings) -> None:
    """Be coild until told to stop."""
    # Threads that return from a system call wait for the interpreter's lock at most this long; the
    # default of 5 ms would be most of an ADD.
    sys.setswitchinterval(0.0005)
    asyncio.run(serve(settings))


def read_settings(**options: Any) -> Settings:
    """Settings out of the command's parameters. Raises ConfigError."""
    tables = Tables(**{field.name: options.pop(field.name) for field in fields(Tables)})
    sockets = Sockets(
        bird=options.pop("bird_socket"),
        frr=options.pop("frr_socket"),
        gobgp=options.pop("gobgp"),
    )
    name = options.pop("node_name")
    mode = GcMode(options.pop("gc"))
    rack, file = options.pop("rack"), options.pop("rack_file")
    # A flag is for this node alone; a label, where there are labels, is the operator's word.
    if rack:
        options["rack_label"] = ""
    return Settings(
        node_name=_node_name(name),
        rack=None if options["rack_label"] else _read_rack(rack, file),
        tables=tables,
        sockets=sockets,
        gc=mode,
        **options,
    )


def _node_name(text: str) -> NodeName:
    try:
        return parse_node_name(text)
    except InvalidName as exc:
        raise ConfigError(f"{exc.message}; set it with --node-name") from exc


def _read_rack(text: str, file: Path) -> RackName | None:
    if not text and (file != DEFAULT_RACK_FILE or file.exists()):
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read the name of the rack from {file}: {exc}") from exc
    try:
        return parse_rack_name(text) if text else None
    except InvalidName as exc:
        raise ConfigError(exc.message) from exc


async def serve(settings: Settings, step: StepHook = no_step) -> None:
    """Be coild until told to stop. Raises ConfigError for what prevents a start."""
    async with opened_store(settings.store) as store:
        await supervise(lambda supervisor: app.run(settings, store, supervisor, step))


if __name__ == "__main__":
    main(prog_name="coild")
