"""The command line of coil-controller."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from coil.controller import app
from coil.controller.settings import DEFAULT_GRACE, Settings
from coil.controller.steps import StepHook, no_step
from coil.process.supervise import supervise
from coil.program import program, start
from coil.store.open import DEFAULT_STORE, opened_store


@program("coil-controller")
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
def main(**options: Any) -> None:
    """Take back blocks of nodes that are gone, audit the store, count blocks.

    Run two or three of it: one leads, the others stand by. Every option can be set by
    COIL_<OPTION> in the environment, too, or in the config file.
    """
    start(options, Settings, lambda settings: asyncio.run(serve(settings)))


async def serve(settings: Settings, step: StepHook = no_step) -> None:
    """Be coil-controller until told to stop. Raises ConfigError for what prevents a start."""
    async with opened_store(settings.store) as store:
        await supervise(lambda supervisor: app.run(settings, store, supervisor, step))


if __name__ == "__main__":
    main(prog_name="coil-controller")
