"""coilctl address: this node's addresses, as its coild tells."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from coil.ctl.client import ask_list, ask_object
from coil.ctl.common import Context, noun, verb
from coil.ctl.output import ago, show_done, show_object, show_rows
from coil.domain.errors import AttachmentNotFound

_ID_SHOWN = 12
"""Characters of a container id in tables, as the runtimes' own tools show them."""


@noun("address")
def address_group() -> None:
    """Addresses of this node: in use and cooling."""


@verb(address_group, "list")
def list_addresses(context: Context) -> None:
    """List addresses in use, with who holds them, and cooling ones."""
    rows = ask_list(context.socket, "/addresses")
    if context.output == "table":
        rows = [_short(row) for row in rows]
    columns = {
        "addresses": "ADDRESS", "state": "STATE", "container_id": "CONTAINER", "ifname": "IF",
        "pod": "POD", "pool": "POOL", "index": "BLOCK", "since": "SINCE", "until": "FREE IN",
    }  # fmt: skip
    show_rows(rows, context.output, columns, "no address is in use or cooling")


@verb(address_group, "info")
@click.argument("address")
def info(context: Context, address: str) -> None:
    """Tell what is known of one address."""
    found = ask_object(context.socket, "GET", "/address", address=address)
    show_object(found if context.output != "table" else readable(found), context.output)


@verb(address_group, "free")
@click.argument("address")
@click.option("--yes", is_flag=True, help="Don't ask.")
def free(context: Context, address: str, *, yes: bool) -> None:
    """Detach whoever holds an address: its link is removed, a live pod loses its network."""
    found = ask_object(context.socket, "GET", "/address", address=address)
    holder = found.get("container_id")
    if holder is None:
        raise AttachmentNotFound(f"{address} {_unheld(found)}")
    if not yes:
        click.confirm(f"{address} is held by {holder}; cut it off?", abort=True, err=True)
    found = ask_object(context.socket, "POST", "/address/free", address=address)
    show_done(f"{address} is {found['state']} now", found, context.output)


def readable(row: dict[str, object]) -> dict[str, object]:
    """Times as people write them, the pod's two names as one."""
    shown = dict(row)
    for key in ("since", "until"):
        at = shown.get(key)
        if isinstance(at, int):
            shown[key] = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    namespace = shown.pop("namespace", "")
    if shown.get("pod"):
        shown["pod"] = f"{namespace}/{shown['pod']}" if namespace else shown["pod"]
    return shown


def _unheld(row: dict[str, object]) -> str:
    """Why nobody can be cut off an address."""
    until = row.get("until")
    if isinstance(until, int):
        return f"is held by nobody: it is cooling, and free in {_seconds_to(until)}"
    if row["state"] == "free":
        return "is held by nobody: it is free already"
    return f"is {row['state']}: coilctl address list shows those that are held here"


def _seconds_to(until: int) -> str:
    return f"{max(0, until - int(time.time()))} s"


def _short(row: dict[str, object]) -> dict[str, object]:
    """Ids as short as they are told apart, times as far as they are away: a row is one line."""
    shown = {**readable(row), "container_id": str(row.get("container_id", ""))[:_ID_SHOWN]}
    since, until = row.get("since"), row.get("until")
    if isinstance(since, int):
        shown["since"] = ago(since)
    if isinstance(until, int):
        shown["until"] = _seconds_to(until)
    return shown
