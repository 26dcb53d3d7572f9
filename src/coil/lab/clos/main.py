"""The command line of coil-lab."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click
from rich.console import Console

from coil import __version__
from coil.domain.errors import RequestError
from coil.lab.clos.command import EXIT_FAILED, names_lab, progress, verb
from coil.lab.clos.fail import fail_group, heal_group
from coil.lab.clos.files import lab_names
from coil.lab.clos.lab import Lab
from coil.lab.clos.observe import observe
from coil.lab.clos.picture import show
from coil.lab.clos.plan import Shape
from coil.lab.clos.pods import Pod
from coil.lab.clos.traffic import ping, trace
from coil.lab.clos.web.server import serve


@names_lab
@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coil-lab")
def main() -> None:
    """A data centre in network namespaces of this machine: real BIRD, etcd, coild, pods.

    The machine's own network is not touched.
    """


_SHAPE = Shape()


@click.option("--spines", type=int, help=f"[default: {_SHAPE.spines}]")
@click.option("--racks", type=int, help=f"[default: {_SHAPE.racks}]")
@click.option("--nodes-per-rack", type=int, help=f"[default: {_SHAPE.nodes_per_rack}]")
@click.option("--etcd", type=int, help=f"Members; an odd number. [default: {_SHAPE.etcd}]")
@click.option(
    "--cool-down",
    type=int,
    help=f"Seconds an address of the pool rests. [default: {_SHAPE.cool_down}]",
)
@click.option(
    "--grace",
    type=int,
    help="Seconds of silence after which coil-controller takes a node's blocks; more than "
    f"--cool-down. [default: {_SHAPE.grace}]",
)
@click.option("--v6", is_flag=True, help="IPv6 only. [default: IPv4 only]")
@click.option("--dual", is_flag=True, help="IPv4 and IPv6.")
def _up(lab: Lab, *, v6: bool, dual: bool, **numbers: int | None) -> None:
    """Bring a lab up, or what is missing of it: whatever has failed is healed.

    What is not said is as it is in the lab, if there is one.
    """
    said: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if v6 and dual:
        raise RequestError("--v6 (IPv6 only) and --dual (IPv4 and IPv6) cannot both be; say one")
    if v6 or dual:
        said["families"] = (6,) if v6 else (4, 6)
    with progress() as report:
        lab.up(replace(lab.files.find_shape() or _SHAPE, **said), report)
    click.echo(f"lab {lab.name} is up; look at it with: coil-lab status{_named(lab)}")


@click.option("--output", "-o", type=click.Choice(["picture", "json"]), default="picture")
def _status(lab: Lab, output: str) -> None:
    """Show the lab as it is now."""
    state = observe(lab)
    if output == "json":
        click.echo(json.dumps(state, indent=2))
        return
    console = Console()
    # Not on a terminal: nobody's width is known.
    show(state, console if console.is_terminal else Console(width=160))


def _list(_lab: Lab) -> None:
    """List the labs of this machine."""
    for name in lab_names():
        click.echo(name)


def _down(lab: Lab) -> None:
    """End and delete all of the lab. Works on whatever is left of one."""
    gone = lab.down()
    click.echo(f"lab {lab.name} is gone" if gone else f"there is no lab {lab.name}")


@names_lab
@click.group("pod")
def _pod_group() -> None:
    """Pods on the lab's nodes."""


@click.argument("pods", nargs=-1, required=True)
@click.option("--node", required=True, help="Where they run.")
def _pod_add(lab: Lab, pods: tuple[str, ...], node: str) -> None:
    """Start pods: network namespaces, attached through the plugin."""
    for pod in pods:
        made = lab.add_pod(pod, node)
        click.echo(f"{made.name} on {made.node}: {' '.join(map(str, made.addresses))}")


@click.argument("pods", nargs=-1, required=True)
def _pod_delete(lab: Lab, pods: tuple[str, ...]) -> None:
    """End pods; their addresses cool."""
    for pod in pods:
        gone = lab.delete_pod(pod)
        click.echo(f"pod {pod} is gone" if gone else f"there is no pod {pod}")


@click.argument("pod")
@click.argument("command", nargs=-1, required=True)
def _pod_exec(lab: Lab, pod: str, command: tuple[str, ...]) -> None:
    """Run a command in a pod; its exit status is the command's."""
    _become(lab.get_pod(pod).host.inside(*command), dict(os.environ))


@click.argument("pod")
@click.argument("other")
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Echo requests for each address.",
)
def _ping(lab: Lab, pod: str, other: str, count: int) -> None:
    """Ping from a pod to another, by every address it has. Exit status 1 if any packet is lost."""
    source, lost = lab.get_pod(pod), 0
    for address in lab.get_pod(other).addresses:
        found = ping(source, address, count=count)
        lost += found.sent - found.received
        time = f", {found.milliseconds:.3f} ms" if found.milliseconds is not None else ""
        click.echo(f"{pod} -> {other} {address}  {found.received} of {found.sent} answered{time}")
    sys.exit(EXIT_FAILED if lost else 0)


@click.argument("pod")
@click.argument("other")
def _trace(lab: Lab, pod: str, other: str) -> None:
    """Show the way from a pod to another, by every address. Exit status 1 if it ends early."""
    source, target = lab.get_pod(pod), lab.get_pod(other)
    names = {str(address): name for address, name in lab.plan.names.items()}
    names |= {str(address): target.name for address in target.addresses}
    ways = [trace(source, address, names) for address in target.addresses]
    for address, hops in zip(target.addresses, ways, strict=True):
        click.echo(f"{pod} -> {other} {address}")
        for hop in hops:
            time = f"{hop.milliseconds:.3f} ms" if hop.milliseconds is not None else "no answer"
            click.echo(f"  {hop.number:>2}  {hop.name or '?':<10} {hop.address:<24} {time}")
    sys.exit(0 if all(_arrived(target, hops[-1].address) for hops in ways if hops) else EXIT_FAILED)


def _arrived(target: Pod, address: str) -> bool:
    return address in map(str, target.addresses)


@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8119,
    show_default=True,
    help="On loopback; 0: any free one.",
)
def _web(lab: Lab, port: int) -> None:
    """Show the lab live in a browser, until Ctrl-C. Others of this machine can look, and click."""
    asyncio.run(serve(lab, port, lambda url: click.echo(f"lab {lab.name}: {url}")))


@click.argument("where")
@click.argument("command", nargs=-1)
def _shell(lab: Lab, where: str, command: tuple[str, ...]) -> None:
    """Open a shell, or run a command, in a router, a node, an etcd member's host or a pod.

    coilctl, birdc and etcdctl speak to those of the place without further options.
    """
    host, environment = lab.place(where)
    words = command or (os.environ.get("SHELL", "/bin/sh"),)
    _become(host.inside(*words), {**os.environ, **environment})


def _become(argv: list[str], environment: dict[str, str]) -> None:
    """Be that program from now on: signals, terminal and exit status are its own."""
    sys.stdout.flush()
    # Python has these ignored, and so would be those that it becomes.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(argv[0], argv, environment)


def _named(lab: Lab) -> str:
    return "" if lab.name == "lab" else f" --name {lab.name}"


for _group in (_pod_group, fail_group, heal_group):
    main.add_command(_group)
_VERBS: dict[str, Callable[..., None]] = {
    "up": _up, "status": _status, "list": _list, "ping": _ping, "trace": _trace,
    "shell": _shell, "web": _web, "down": _down,
}  # fmt: skip
_POD_VERBS: dict[str, Callable[..., None]] = {
    "add": _pod_add, "delete": _pod_delete, "exec": _pod_exec
}  # fmt: skip
for _name, _function in _VERBS.items():
    verb(main, _name)(_function)
for _name, _function in _POD_VERBS.items():
    verb(_pod_group, _name)(_function)


if __name__ == "__main__":
    main()
