"""The command line of coil-router."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from coil import __version__
from coil.domain.errors import CoilError, ConfigError, InvalidName
from coil.domain.names import parse_node_name
from coil.process import logging
from coil.process.options import CONTEXT, config_option, log_options, node_name_option
from coil.process.supervise import supervise
from coil.router import app
from coil.router.keeper import flush
from coil.router.settings import (
    DEFAULT_PROTOCOL,
    DEFAULT_RULE_PRIORITY,
    DEFAULT_TABLE,
    Settings,
)
from coil.store.open import opened_store

DEFAULT_CONFIG = Path("/etc/coil/coil-router.toml")
_EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: systemd shows its name


@click.command(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="coil-router")
@config_option(DEFAULT_CONFIG)
@node_name_option
@click.option("--store", default="", help="URL of the store that all nodes share.")
@click.option(
    "--router-table",
    type=click.IntRange(1, 2**32 - 1),
    default=DEFAULT_TABLE,
    show_default=True,
    help="Routing table of routes to other nodes' blocks.",
)
@click.option(
    "--router-rule-priority",
    type=click.IntRange(1, 32765),
    default=DEFAULT_RULE_PRIORITY,
    show_default=True,
    help="Priority of the rule that looks this table up; coild's own must come before it.",
)
@click.option(
    "--router-protocol",
    type=click.IntRange(5, 255),
    default=DEFAULT_PROTOCOL,
    show_default=True,
    help="Protocol id of these routes; coild's is another.",
)
@click.option(
    "--period",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds between passes over the kernel's routes when nothing happens.",
)
@log_options
@click.option("--print-config", is_flag=True, help="Print the settings in force and exit.")
@click.option("--flush", is_flag=True, help="Remove all routes of this program and exit.")
def main(config: Path, *, print_config: bool, flush: bool, **options: Any) -> None:
    """Keep routes to the blocks of other nodes: for nodes on one layer-2 network, without BGP.

    Every option can be set by COIL_<OPTION> in the environment, too, or in the config file. The
    routes stay when this program ends: nothing is cut off by a restart.
    """
    del config  # its callback has used it
    logging.configure(level=options["log_level"], fmt=options["log_format"])
    try:
        settings = Settings(node_name=parse_node_name(options.pop("node_name")), **options)
        if print_config:
            click.echo(json.dumps(settings.shown(), indent=2))
        elif flush:
            _flush(settings)
        else:
            asyncio.run(serve(settings))
    except CoilError as exc:
        click.echo(f"coil-router: {exc.message}", err=True)
        sys.exit(_EXIT_CONFIG if isinstance(exc, ConfigError | InvalidName) else 1)


def _flush(settings: Settings) -> None:
    removed = flush(settings).removed
    click.echo(f"{len(removed)} routes removed from table {settings.router_table}")


async def serve(settings: Settings) -> None:
    """Be coil-router until told to stop. Raises ConfigError for what prevents a start."""
    if not settings.store:
        raise ConfigError("no store is named: use --store, as for coild (etcd://HOST:PORT/PREFIX)")
    async with opened_store(settings.store) as store:
        await supervise(lambda supervisor: app.run(settings, store, supervisor))


if __name__ == "__main__":
    main()
