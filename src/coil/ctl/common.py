"""What every command of coilctl shares: its options (at every level) and its errors."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from coil.ctl.output import FORMATS
from coil.domain.errors import CoilError, ConfigError, RequestError
from coil.store.contract import Store
from coil.store.errors import StoreAbsent
from coil.store.open import DEFAULT_STORE, opened_store

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_SOCKET = "/run/coil/coild.sock"
EXIT_FAILED = 1
EXIT_USAGE = 2


@dataclass(slots=True)
class Context:
    """What the common options say."""

    store: str = DEFAULT_STORE
    socket: Path = Path(DEFAULT_SOCKET)
    output: str = "table"


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> object:
    """Let the option nearest to the verb win: outer ones are parsed first."""
    if value is not None and parameter.name is not None:
        setattr(context.ensure_object(Context), parameter.name, value)
    return value


def common_options(command: Command, *, from_environment: bool = False) -> Command:
    """Add --store, --socket and --output.

    The environment is asked by the program's own options only: asked again further in it would win
    over what was written before.
    """
    prefix = "COIL" if from_environment else None
    options = (
        click.option(
            "--store", metavar="URL", envvar=prefix and f"{prefix}_STORE",
            expose_value=False, callback=_keep,
            help=f"Store of pools and blocks. [env COIL_STORE; default {DEFAULT_STORE}]",
        ),
        click.option(
            "--socket", type=click.Path(path_type=Path), envvar=prefix and f"{prefix}_SOCKET",
            expose_value=False, callback=_keep,
            help=f"coild's socket. [env COIL_SOCKET; default {DEFAULT_SOCKET}]",
        ),
        click.option(
            "--output", "-o", type=click.Choice(FORMATS), envvar=prefix and f"{prefix}_OUTPUT",
            expose_value=False, callback=_keep, help="How to print. [default table]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def noun(name: str) -> Callable[[Callable[[], None]], click.Group]:
    """Make a function a group of verbs; it, too, takes the options that all share."""

    def decorate(function: Callable[[], None]) -> click.Group:
        return click.group(name)(common_options(function))

    return decorate


def verb(group: click.Group, name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function, whose first parameter is the Context, a command of ``group``."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(**parameters: Any) -> None:
            context = click.get_current_context().ensure_object(Context)
            try:
                function(context, **parameters)
            except CoilError as exc:
                click.echo(f"coilctl: {exc.message}", err=True)
                # A store that is not there yet may be what was meant.
                wrong = isinstance(exc, RequestError | ConfigError) and not isinstance(
                    exc, StoreAbsent
                )
                sys.exit(EXIT_USAGE if wrong else EXIT_FAILED)

        return group.command(name)(common_options(run))

    return decorate


def with_store(context: Context, work: Callable[[Store], Awaitable[T]], *, make: bool = False) -> T:
    """Open the store, do ``work`` with it, close it. Only with ``make`` one is made."""

    async def run() -> T:
        async with opened_store(context.store, make=make) as store:
            return await work(store)

    return asyncio.run(run())
