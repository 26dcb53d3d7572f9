"""make demo-node: one machine, real containers, addresses from blocks.

Run as ``python -m coil.lab.demo``.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape

from coil.domain.errors import CoilError
from coil.lab.containerd import Containerd, containerd
from coil.lab.cri import Pod
from coil.lab.host import Host, host
from coil.lab.node import PLUGIN, Node, node
from coil.lab.web import fetch, ping, serve

_SUBNETS = "10.64.0.0/24,fd00:64::/120"
_PODS = 4
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Screen(Console):
    """What cannot be printed, as the terminal was closed, ends the demo as its signal does."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            _interrupt(signal.SIGHUP, None)


_console = _Screen(highlight=False)


def main() -> int:
    """Show the main job from end to end; exit status 0 when every promise was kept."""
    for number in _ENDING:
        signal.signal(number, _interrupt)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="coil-demo-") as name, host("coil-demo") as made:
            _show_or_tell_why(made, Path(name))
    except (CoilError, KeyboardInterrupt) as exc:
        _console.print(f"[bold red]the demo failed:[/] {escape(str(exc) or 'interrupted')}")
        return 1
    _console.print(f"[bold green]done[/] in {time.monotonic() - started:.0f} s; all is cleaned up")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in _ENDING:  # what is cleaned up now is cleaned up to the end
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show_or_tell_why(made: Host, directory: Path) -> None:
    try:
        _show(made, directory)
    except CoilError:
        for log in (directory / "coil/coild.log", directory / "containerd/containerd.log"):
            if log.exists():
                _console.print(f"[dim]--- end of {log.name}[/]")
                _console.print(escape(log.read_text()[-3000:]), soft_wrap=True)
        raise


def _show(made: Host, directory: Path) -> None:
    _say(f"a machine of its own: network namespace {made.name}; yours is not touched")
    with node(made, directory / "coil", _SUBNETS) as coil:
        _say("coild runs on an embedded SQLite store with a dual-stack pool")
        _table(coil, "pool", "list")
        with containerd(made, directory / "containerd", PLUGIN) as runtime:
            bin_dir = str(runtime.bin_dir)
            conf = coil.ctl("conflist", "--cni-bin-dir", bin_dir).stdout
            runtime.configure("10-coil.conflist", conf)
            _say(
                "containerd is set up with two files: the plugin, and what coilctl conflist prints"
            )
            _talk(coil, runtime)


def _talk(coil: Node, runtime: Containerd) -> None:
    with ThreadPoolExecutor(_PODS) as threads:
        pods = list(threads.map(runtime.cri.run_pod, [f"web-{n}" for n in range(_PODS)]))
    first, *_others = [serve(runtime.cri, pod) for pod in pods]
    _say(f"{_PODS} pods run; each has an IPv4 and an IPv6 address of this node's block")
    _table(coil, "address", "list")
    _say("they reach each other, by both families, with ping and HTTP")
    for pod in pods[1:]:
        _reach(runtime, first, pod)
    _survive(coil, runtime, first)
    _say("what coil knows of the first pod, and whether the kernel agrees")
    _table(coil, "explain", pods[0].addresses[0])
    _table(coil, "node", "status")
    _say("the routes: pods in table 116, blocks for a routing daemon in table 119")
    for family in ("-4", "-6"):
        for table in ("116", "119"):
            shown = coil.host.run("ip", family, "route", "show", "table", table).stdout
            _console.print(f"[dim]{escape(shown.rstrip())}[/]")
    _say("the pods go; their addresses cool before anybody gets them again")
    for pod in pods:
        runtime.cri.remove_pod(pod.id)
    _table(coil, "address", "list")


def _survive(coil: Node, runtime: Containerd, first: str) -> None:
    _say("now coild is killed (SIGKILL), and a pod is started while it is away")
    coil.kill()
    with ThreadPoolExecutor(1) as threads:
        begun = time.monotonic()
        starting = threads.submit(runtime.cri.run_pod, "patient")
        coil.start()
        pod = starting.result()
    serve(runtime.cri, pod)
    took = time.monotonic() - begun
    _console.print(f"  the plugin waited for the restart; the pod was up after {took:.1f} s")
    _reach(runtime, first, pod)
    runtime.cri.remove_pod(pod.id)


def _reach(runtime: Containerd, container: str, pod: Pod) -> None:
    """Ping and HTTP to every address of ``pod`` from inside a container. Raises CoilError."""
    for address in pod.addresses:
        for command in (ping(address), fetch(address)):
            code, output = runtime.cri.exec(container, *command)
            if code != 0:
                raise CoilError(f"{' '.join(command)} failed: {output}")
        _console.print(f"  [green]ok[/] ping and HTTP to {pod.name} at {address}")


def _say(text: str) -> None:
    _console.print(f"\n[bold cyan]==>[/] [bold]{escape(text)}[/]")


def _table(coil: Node, *words: str) -> None:
    _console.print(f"[dim]$ coilctl {' '.join(words)}[/]")
    shown = coil.ctl(*words).stdout
    sys.stdout.flush()
    _console.print(escape(shown.rstrip()), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
