"""The command line of coil-router."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from coil.domain.errors import ConfigError
from coil.domain.names import parse_node_name
from coil.process.supervise import supervise
from coil.program import node_name_option, program, start
from coil.router import app
from coil.router.keeper import flush
from coil.router.settings import (
    DEFAULT_PROTOCOL,
    DEFAULT_RULE_PRIORITY,
    DEFAULT_TABLE,
    Settings,
)
from coil.store.open import opened_store


@program("coil-router")
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
@click.option("--flush", is_flag=True, help="Remove all routes of this program and exit.")
def main(*, flush: bool, **options: Any) -> None:
    """Keep routes to the blocks of other nodes: for nodes on one layer-2 network, without BGP.

    Every option can be set by COIL_<OPTION> in the environment, too, or in the config file. The
    routes stay when this program ends: nothing is cut off by a restart.
    """
    run = _flush if flush else lambda settings: asyncio.run(serve(settings))
    start(options, _read_settings, run)


def _read_settings(*, node_name: str, **options: Any) -> Settings:
    return Settings(node_name=parse_node_name(node_name), **options)


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
    main(prog_name="coil-router")
