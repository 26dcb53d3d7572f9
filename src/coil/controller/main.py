"""The command line of coil-controller."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from coil import __version__
from coil.controller import app
from coil.controller.settings import DEFAULT_GRACE, Settings
from coil.controller.steps import StepHook, no_step
from coil.domain.errors import CoilError, ConfigError
from coil.process import logging
from coil.process.options import CONTEXT, config_option, log_options
from coil.process.supervise import supervise
from coil.store.open import DEFAULT_STORE, opened_store

DEFAULT_CONFIG = Path("/etc/coil/coil-controller.toml")
_EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: systemd shows its name


@click.command(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="coil-controller")
@config_option(DEFAULT_CONFIG)
@click.option("--store", default=DEFAULT_STORE, show_default=True, help="URL of the store.")
@click.option(
    "--grace",
    type=float,
    default=DEFAULT_GRACE,
    show_default=True,
    help="Seconds a node must give no sign of life before its blocks are taken back.",
)
@click.option("--short-grace", is_flag=True, help="Allow a grace of less than a minute: for labs.")
@click.option(
    "--most-missing",
    type=float,
    default=10.0,
    show_default=True,
    help="Percent of all nodes that may be missing before it is taken for an outage.",
)
@click.option(
    "--period", type=float, default=30.0, show_default=True, help="Seconds between two passes."
)
@click.option(
    "--lease",
    type=float,
    default=15.0,
    show_default=True,
    help="Seconds after which another replica follows a leader that is silent.",
)
@click.option(
    "--metrics-addr",
    default="",
    help="HOST:PORT for /metrics, /status, /health and /ready. [default: none]",
)
@log_options
@click.option("--print-config", is_flag=True, help="Print the settings in force and exit.")
def main(config: Path, *, print_config: bool, **options: Any) -> None:
    """Take back blocks of nodes that are gone, audit the store, count blocks.

    Run two or three of it: one leads, the others stand by. Every option can be set by
    COIL_<OPTION> in the environment, too, or in the config file.
    """
    del config  # its callback has used it
    logging.configure(level=options["log_level"], fmt=options["log_format"])
    try:
        settings = Settings(**options)
        if print_config:
            click.echo(json.dumps(settings.shown(), indent=2))
            return
        asyncio.run(serve(settings))
    except CoilError as exc:
        click.echo(f"coil-controller: {exc.message}", err=True)
        sys.exit(_EXIT_CONFIG if isinstance(exc, ConfigError) else 1)


async def serve(settings: Settings, step: StepHook = no_step) -> None:
    """Be coil-controller until told to stop. Raises ConfigError for what prevents a start."""
    async with opened_store(settings.store) as store:
        await supervise(lambda supervisor: app.run(settings, store, supervisor, step))


if __name__ == "__main__":
    main()
