"""coilctl explain: a container's addresses, from the pool they are of to who is told of them."""

from __future__ import annotations

from typing import cast

import click

from coil.ctl.address import readable
from coil.ctl.client import ask_object
from coil.ctl.common import Context, verb
from coil.ctl.output import show_object
from coil.ctl.pickup import as_lines, find_pickup, socket_options

_LONG = ("used_offsets", "cooling_offsets")
"""Of a block: what programs draw it by."""


def add_to(group: click.Group) -> None:
    """Make ``explain`` a command of ``group``."""

    @verb(group, "explain")
    @click.argument("subject")
    @socket_options
    def explain(context: Context, subject: str, **places: str) -> None:
        """Tell why a container has its address, by which routes, and if the kernel is right.

        SUBJECT is an address, a container id (or its beginning) or NAMESPACE/POD; of the latter two
        all interfaces are told. The routing daemon of this node is asked whether it learnt the
        block, and whom it tells of it.
        """
        first = ask_object(context.socket, "GET", "/explain", subject=subject)
        others = cast("list[dict[str, object]]", first.pop("other_interfaces"))
        found = [{**row, "routing": _routing(row, places)} for row in (first, *others)]
        if context.output != "table":
            show_object({**found[0], "other_interfaces": found[1:]}, context.output)
            return
        for number, row in enumerate(found):
            click.echo("\n" if number else "", nl=False)
            show_object(_for_people(row), "table")


def _routing(row: dict[str, object], places: dict[str, str]) -> dict[str, object]:
    block = row["block"]
    return find_pickup(block["networks"] if isinstance(block, dict) else [], places)


def _for_people(row: dict[str, object]) -> dict[str, object]:
    shown = readable(row)
    block = shown["block"]
    if isinstance(block, dict):
        shown["block"] = {key: block[key] for key in block if key not in _LONG}
    if "faults" in shown:
        shown["kernel"] = shown.pop("faults") or "as it should be"
    # Last, as it is the longest.
    shown["routing"] = as_lines(cast("dict[str, object]", shown.pop("routing")))
    return shown
