"""What every command of coil-lab shares: --name, errors, signals, progress."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coil.domain.errors import CoilError, RequestError
from coil.lab.clos.files import ROOT
from coil.lab.clos.lab import Lab, Report
from coil.lab.errors import LabError

F = TypeVar("F", bound=Callable[..., Any])
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LAB = "coil.lab"
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def names_lab(command: F) -> F:
    """Give --name to a verb, or to what stands before it; what is said last counts."""
    return click.option(
        "--name", expose_value=False, callback=_remember, metavar="LAB",
        help="Which lab; several can be up beside each other. [env COIL_LAB; default: lab]",
    )(command)  # fmt: skip


def _remember(context: click.Context, _option: click.Parameter, name: str | None) -> None:
    # What stands further inside is parsed later, and all of it shares this dictionary.
    if name is not None:
        context.meta[_LAB] = name


def verb(
    group: click.Group, name: str, **settings: Any
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function, whose first parameter is the Lab, a command of ``group``."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @names_lab
        @functools.wraps(function)
        def run(**parameters: Any) -> None:
            heed_signals()
            try:
                _check_user()
                said = click.get_current_context().meta
                lab = Lab(said.get(_LAB, os.environ.get("COIL_LAB") or "lab"))
                function(lab, **parameters)
            except CoilError as exc:
                click.echo(f"coil-lab: {exc.message}", err=True)
                sys.exit(EXIT_USAGE if isinstance(exc, RequestError) else EXIT_FAILED)
            except OSError as exc:
                if exc.errno not in _FULL:
                    raise
                click.echo(f"coil-lab: {exc.strerror}: {exc.filename or ROOT}; make room", err=True)
                sys.exit(EXIT_FAILED)
            except KeyboardInterrupt:
                click.echo("coil-lab: interrupted", err=True)
                sys.exit(EXIT_INTERRUPTED)

        return group.command(name, **settings)(run)

    return decorate


def _check_user() -> None:
    if os.geteuid() != 0:
        raise LabError("network namespaces are root's: run coil-lab as root")


def heed_signals() -> None:
    """Have this process interrupted by what asks it to end, a closed terminal included, once."""
    for number in _ENDING:
        # nohup(1) has SIGHUP ignored, and means it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """Clean up to the end from now on."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    ignore_signals()
    raise KeyboardInterrupt


@contextmanager
def progress() -> Iterator[Report]:
    """Show what is being done: bars on a terminal, a line for each finished step elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _print_step
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(step: str, done: int, total: int) -> None:
            with suppress(OSError):  # the terminal was closed: its signal is on its way
                if step not in tasks:
                    tasks[step] = bars.add_task(step, total=total)
                bars.update(tasks[step], completed=done)

        yield report


def _print_step(step: str, done: int, total: int) -> None:
    if done == total:
        click.echo(f"{step}: {done} of {total}", err=True)
