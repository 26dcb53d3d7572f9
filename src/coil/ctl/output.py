"""Prints values as a table for people, or as JSON or YAML for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

import click

Row = Mapping[str, object]
_NOTHING: tuple[object, ...] = ("", None, [])
FORMATS = ("table", "json", "yaml")


def ago(seen: int) -> str:
    """How long ago a moment in seconds since 1970 was, in the unit that fits."""
    seconds = max(0, int(time.time()) - seen)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def show_rows(rows: Sequence[Row], fmt: str, columns: Mapping[str, str], empty: str) -> None:
    """Print rows. ``columns``: key to heading, for the table; ``empty``: what to say of none."""
    if fmt != "table":
        _show_value(list(rows), fmt)
    elif rows:
        _show_table(rows, columns)
    else:
        click.echo(empty)


def show_object(value: Row, fmt: str) -> None:
    """Print one object: in a table, a line for each key."""
    if fmt != "table":
        _show_value(value, fmt)
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for key, entry in value.items():
        if entry not in _NOTHING:
            grid.add_row(f"[bold]{key.replace('_', ' ')}[/bold]", _cell(entry))
    Console(soft_wrap=True).print(grid)


def show_done(said: str, value: Row, fmt: str) -> None:
    """Print what a verb did: a sentence for people, what it acted on as it is now for programs."""
    if fmt == "table":
        click.echo(said)
    else:
        _show_value(value, fmt)


def _show_value(value: object, fmt: str) -> None:
    if fmt == "json":
        click.echo(json.dumps(value, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump(value, sort_keys=False).rstrip())


def _show_table(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    console = Console()
    # Not on a terminal: nobody's width is known, so nothing may be cut.
    Console(width=None if console.is_terminal else 400).print(table)


def _cell(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, Mapping):
        there = {key: entry for key, entry in value.items() if entry not in _NOTHING}
        return ", ".join(f"{key} {' '.join(_cell(entry).split())}" for key, entry in there.items())
    if isinstance(value, list):
        return "\n".join(_cell(entry) for entry in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape("" if value is None else str(value))
