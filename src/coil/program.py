"""How our long-running programs start: the options that all have, and what exit statuses say.

Each option can also be set as ``COIL_<OPTION>`` in the environment, or in a TOML file whose keys
are the names of the options: flags win over the environment, the environment over the file.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from coil import __version__
from coil.domain.errors import CoilError, ConfigError, InvalidName
from coil.process import logging

EXIT_FAILED = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: systemd shows its name."""


class Settings(Protocol):
    """What a program was told; making one raises ConfigError for what cannot be."""

    def shown(self) -> dict[str, object]:
        """As ``--print-config`` prints them: flags' names, plain values, no password."""
        ...


Command = TypeVar("Command", bound=Callable[..., Any])
Told = TypeVar("Told", bound=Settings)


def program(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function the command of a long-running program; its body is ``start``."""

    def decorate(function: Callable[..., None]) -> click.Command:
        for option in (*_log_options(), _print_option(), _config_option(name)):
            function = option(function)
        function = click.version_option(__version__, prog_name=name)(function)
        context = {"auto_envvar_prefix": "COIL", "help_option_names": ["-h", "--help"]}
        return click.command(name, context_settings=context)(function)

    return decorate


def start(
    options: dict[str, Any], read: Callable[..., Told], serve: Callable[[Told], object]
) -> None:
    """Read the settings out of a ``program``'s options, and print them or serve.

    Ends the process with a sentence on stderr when either raises a CoilError.
    """
    name = click.get_current_context().command.name
    del options["config"]  # its callback has used it
    print_config = options.pop("print_config")
    logging.configure(level=options["log_level"], fmt=options["log_format"])
    try:
        _check_finite(options)
        settings = read(**options)
        if print_config:
            click.echo(json.dumps(settings.shown(), indent=2))
        else:
            serve(settings)
    except CoilError as exc:
        click.echo(f"{name}: {exc.message}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(exc, ConfigError | InvalidName) else EXIT_FAILED)


def _check_finite(options: dict[str, Any]) -> None:
    """A limit holds back no NaN, and nothing waits for infinity. Raises ConfigError."""
    for option, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{option.replace('_', '-')} must be a number, not {value}")


def _print_option() -> Callable[[Command], Command]:
    words = "Print the settings in force and exit."
    return click.option("--print-config", is_flag=True, help=words)


def _config_option(name: str) -> Callable[[Command], Command]:
    """--config, whose file gives the defaults of all others. The default one may be missing."""
    default = Path(f"/etc/coil/{name}.toml")

    def read(context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
        if value.exists() or value != default:
            context.default_map = _read(value, context.command)
        return value

    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        default=default,
        show_default=True,
        is_eager=True,
        callback=read,
        help="TOML file whose keys are the names of these options.",
    )


def _read(path: Path, command: click.Command) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise click.BadParameter(f"cannot read {path}: {exc}") from exc
    keys = {key.replace("-", "_"): value for key, value in found.items()}
    unknown = sorted(keys.keys() - {parameter.name for parameter in command.params})
    if unknown:
        raise click.BadParameter(f"{path} has unknown keys: {', '.join(unknown)}")
    for key, value in found.items():
        if not isinstance(value, str | int | float):
            raise click.BadParameter(f"{key} in {path} must be one value: text, number or true")
    # As text, each is read as on the command line: 1.5 is no whole number, and true no path.
    return {key: str(value) for key, value in keys.items()}


def _log_options() -> list[Callable[[Command], Command]]:
    """--log-level and --log-format: what ``coil.process.logging.configure`` takes."""
    return [
        click.option(name, type=click.Choice(choices), default=default, show_default=True)
        for name, choices, default in (
            ("--log-format", logging.FORMATS, "auto"),
            ("--log-level", logging.LEVELS, "info"),
        )
    ]


def node_name_option(command: Command) -> Command:
    """Add --node-name. Kubernetes hands a pod its node's name as NODE_NAME, by custom."""
    return click.option(
        "--node-name",
        default=lambda: os.environ.get("NODE_NAME") or socket.gethostname().lower(),
        show_default="$NODE_NAME, else the host's name",
        help="This node's name.",
    )(command)


def parse_endpoint(option: str, text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [HOST]:PORT. Raises ConfigError, which names the option."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"{option} {text!r} must be HOST:PORT, like 127.0.0.1:9384")
    return host.strip("[]"), int(port)
