"""What the command lines of our long-running programs have in common.

Each option can also be set as ``COIL_<OPTION>`` in the environment, or in a TOML file whose keys
are the names of the options: flags win over the environment, the environment over the file.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from coil.process import logging

Command = TypeVar("Command", bound=Callable[..., Any])

CONTEXT = {"auto_envvar_prefix": "COIL", "help_option_names": ["-h", "--help"]}
"""Context settings of each such command."""


def config_option(default: Path) -> Callable[[Command], Command]:
    """Add --config, whose file gives the defaults of all others. The default one may be missing."""

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
    return keys


def node_name_option(command: Command) -> Command:
    """Add --node-name. Kubernetes hands a pod its node's name as NODE_NAME, by custom."""
    return click.option(
        "--node-name",
        default=lambda: os.environ.get("NODE_NAME") or socket.gethostname().lower(),
        show_default="$NODE_NAME, else the host's name",
        help="This node's name.",
    )(command)


def log_options(command: Command) -> Command:
    """Add --log-level and --log-format: what ``coil.process.logging.configure`` takes."""
    for name, choices, default in (
        ("--log-format", logging.FORMATS, "auto"),
        ("--log-level", logging.LEVELS, "info"),
    ):
        option = click.option(name, type=click.Choice(choices), default=default, show_default=True)
        command = option(command)
    return command


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [HOST]:PORT. Raises ValueError, which says what is wanted."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{text!r} must be HOST:PORT, like 127.0.0.1:9384")
    return host.strip("[]"), int(port)
