"""coil-lab fail, coil-lab heal: break parts of a lab, and mend them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click

from coil.lab.clos.command import names_lab, verb
from coil.lab.clos.faults import Faults, How
from coil.lab.clos.lab import Lab


@names_lab
@click.group("fail")
def fail_group() -> None:
    """Break a part of the lab; status shows what is broken."""


@names_lab
@click.group("heal")
def heal_group() -> None:
    """Mend a part of the lab; up mends all at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of thing that can fail: the two ends of a link, or one name."""

    arguments: tuple[str, ...]
    fail: Callable[..., str | None]
    """Returns what failed, where its name does not say it."""
    heal: Callable[..., None]
    help: str
    stops: bool = False
    """Whether it is a program, which can stop in more than one way."""


PARTS = {
    "link": Part(
        ("one", "other"),
        Faults.fail_link,
        Faults.heal_link,
        "A link between two machines: every packet is lost, both ways, and nothing tells them.",
    ),
    "node": Part(
        ("node",), Faults.fail_node, Faults.heal_node, "Power of a node: its pods are gone."
    ),
    "router": Part(
        ("router",), Faults.fail_router, Faults.heal_router, "Power of a spine or a ToR."
    ),
    "etcd": Part(
        ("member",),
        Faults.fail_etcd,
        Faults.heal_etcd,
        "A member of etcd; to fail may also be: leader.",
        stops=True,
    ),
    "coild": Part(("node",), Faults.fail_coild, Faults.heal_coild, "coild of a node.", stops=True),
    "bird": Part(
        ("machine",),
        Faults.fail_bird,
        Faults.heal_bird,
        "The routing daemon of a machine: its neighbours drop its routes, the kernel keeps them.",
        stops=True,
    ),
    "controller": Part(
        ("node",),
        Faults.fail_controller,
        Faults.heal_controller,
        "coil-controller of a node.",
        stops=True,
    ),
}


def _add(group: click.Group, name: str, part: Part, do: Callable[..., str | None]) -> None:
    def function(lab: Lab, how: str | None = None, **names: str) -> None:
        more = {"how": How(how)} if how else {}
        words = [names[argument] for argument in part.arguments]
        found = do(lab.faults, *words, **more)
        done = "has failed" if group is fail_group else "is healed"
        click.echo(f"{name} {found or ' '.join(words)} {done}")

    if part.stops and group is fail_group:
        function = click.option(
            "--how", type=click.Choice([how.value for how in How]), default="kill",
            show_default=True, help="suspend: it hangs, and nobody is told.",
        )(function)  # fmt: skip
    for argument in reversed(part.arguments):
        function = click.argument(argument)(function)
    verb(group, name, help=part.help)(function)


for _name, _part in PARTS.items():
    _add(fail_group, _name, _part, _part.fail)
    _add(heal_group, _name, _part, _part.heal)
