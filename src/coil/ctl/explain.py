"""coilctl explain: one container's address, from the pool it came from to whom it is announced."""

from __future__ import annotations

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

        SUBJECT is an address, a container id (or its beginning) or NAMESPACE/POD. The routing
        daemon of this node is asked whether it learnt the block, and whom it tells of it.
        """
        found = ask_object(context.socket, "GET", "/explain", subject=subject)
        block = found.get("block")
        networks = block["networks"] if isinstance(block, dict) else []
        routing = find_pickup(networks, places)
        if context.output == "table":
            found = readable(found)
            if isinstance(block, dict):
                found["block"] = {key: block[key] for key in block if key not in _LONG}
            found["kernel"] = found.pop("faults") or "as it should be"
            found["routing"] = as_lines(routing)
        else:
            found = {**found, "routing": routing}
        show_object(found, context.output)
