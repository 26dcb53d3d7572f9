"""make demo: a data centre comes up, and is broken while pods talk.

Run as ``python -m coil.lab.clos.demo``.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.markup import escape

from coil.domain.errors import CoilError
from coil.lab.clos.command import heed_signals, ignore_signals, progress
from coil.lab.clos.lab import Lab
from coil.lab.clos.observe import observe
from coil.lab.clos.picture import show
from coil.lab.clos.plan import Shape
from coil.lab.clos.pods import Pod
from coil.lab.clos.traffic import Stream, Streamed, ping, streams, trace
from coil.lab.errors import LabError
from coil.lab.wait import until
from coil.routing.model import Address

_SHAPE = Shape(spines=2, racks=2, nodes_per_rack=2, etcd=3, families=(4, 6))
_PODS = {"ann": "r1n1", "ben": "r1n2", "cat": "r2n1", "dan": "r2n2"}
_console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Show the main job of the cluster; exit status 0 when every promise was kept."""
    heed_signals()
    started = time.monotonic()
    lab = Lab(f"demo-{secrets.token_hex(3)}")
    try:
        _show(lab)
    except (CoilError, KeyboardInterrupt) as exc:
        _console.print(f"[bold red]the demo failed:[/] {escape(str(exc) or 'interrupted')}")
        return 1
    finally:
        # Whoever closes the terminal makes a line that is printed fail first, and signals then.
        ignore_signals()
        lab.down()
    _console.print(
        f"\n[bold green]done[/] in {time.monotonic() - started:.0f} s; all is cleaned up"
    )
    return 0


def _show(lab: Lab) -> None:
    _say("a data centre in network namespaces; this machine's own network is not touched")
    with progress() as report:
        lab.up(_SHAPE, report)
    _say("a pod on every node; each node has taken a block of addresses from etcd")
    with ThreadPoolExecutor(len(_PODS)) as threads:
        pods = list(threads.map(lab.add_pod, _PODS, _PODS.values()))
    show(observe(lab), _console)
    _say("pods of different racks reach each other, by IPv4 and IPv6")
    first, *others = pods
    for pod in others:
        _reach(first, pod)
    _show_routes(lab, pods[-1])
    for address in pods[-1].addresses:
        _console.print(f"  {first.name} -> {pods[-1].name} {address}: {_way(lab, first, address)}")
    _break(lab, first, pods[-1])


def _show_routes(lab: Lab, pod: Pod) -> None:
    nodes = {row["name"]: row for row in observe(lab)["nodes"]}
    block = nodes[pod.node]["blocks"][0]["networks"][0]
    _say(f"how that works: {pod.node} owns {block}; coild has put it into kernel table 119,")
    _run(lab, pod.node, "ip", "route", "show", "table", "119")
    _say(
        "where BIRD has learnt it, and told the rack's ToR, which tells the spines, which tell all"
    )
    _run(lab, "spine1", "birdc", "show", "route", "for", block)
    _run(lab, "r1n1", "ip", "route", "show", block)
    _say("a ToR of another rack has two equal ways to it")
    _run(lab, "tor1", "ip", "route", "show", block)


def _break(lab: Lab, one: Pod, other: Pod) -> None:
    _say(f"now things break, while {one.name} pings {other.name} every 20 ms by both families")
    for event in (_lose_link, _lose_spine, _lose_leader, _lose_coild):
        with streams(one, other) as running:
            event(lab, one, other, running)
            for found in [stream.stop() for stream in running]:
                _console.print(f"  {_counted(found)}")


def _lose_link(lab: Lab, one: Pod, other: Pod, running: list[Stream]) -> None:
    spine = _spine(lab, one, other)
    _event(f"the link tor1 - {spine} loses every packet from now on: only BFD can notice")
    lab.faults.fail_link("tor1", spine)
    _wait(running)
    for address in other.addresses:
        _console.print(f"  now {_way(lab, one, address)}")
    show(observe(lab), _console)
    lab.faults.heal_link("tor1", spine)
    lab.machines.wait_sessions()
    _wait(running)
    _console.print("  the link is healed")


def _lose_spine(lab: Lab, one: Pod, other: Pod, running: list[Stream]) -> None:
    spine = _spine(lab, one, other)
    _event(f"{spine} loses its power: its neighbours lose the carrier, and go another way at once")
    lab.faults.fail_router(spine)
    _wait(running)
    for address in other.addresses:
        _console.print(f"  now {_way(lab, one, address)}")
    lab.faults.heal_router(spine)
    lab.machines.wait_sessions()
    _wait(running)
    _console.print(f"  {spine} is back")


def _lose_leader(lab: Lab, one: Pod, _other: Pod, running: list[Stream]) -> None:
    leader = until(lab.machines.leader, "etcd has a leader", 30)
    _event(f"{leader}, the leader of etcd, is killed, and a pod is started at once")
    begun = time.monotonic()
    lab.faults.fail_etcd(leader)
    pod = lab.add_pod("eve", one.node)
    _console.print(f"  eve was up after {time.monotonic() - begun:.2f} s: its node owns a block")
    _reach(one, pod)
    heir = until(lab.machines.leader, "another leader", 30)
    _console.print(f"  {heir} leads after {time.monotonic() - begun:.1f} s")
    lab.faults.heal_etcd(leader)
    _wait(running)


def _lose_coild(lab: Lab, one: Pod, other: Pod, running: list[Stream]) -> None:
    _event(f"coild of {other.node} is killed, and a pod is started there while it is away")
    lab.faults.fail_coild(other.node)
    with ThreadPoolExecutor(1) as threads:
        begun = time.monotonic()
        starting = threads.submit(lab.add_pod, "fay", other.node)
        lab.faults.heal_coild(other.node)
        pod = starting.result()
    _console.print(f"  the plugin waited; fay was up after {time.monotonic() - begun:.1f} s")
    _reach(one, pod)
    _wait(running)
    _run(lab, other.node, "coilctl", "address", "list")


def _wait(running: list[Stream]) -> None:
    """Until every stream is answered again, for a while."""
    for stream in running:
        stream.wait_more(10)


def _reach(pod: Pod, other: Pod) -> None:
    """Raises LabError unless each address of ``other`` answers."""
    for address in other.addresses:
        if not ping(pod, address, count=3).received:
            raise LabError(f"{pod.name} does not reach {other.name} at {address}")
        _console.print(f"  [green]ok[/] {pod.name} -> {other.name} {address}")


def _hops(lab: Lab, pod: Pod, address: Address) -> list[str]:
    names = {str(found): name for found, name in lab.plan.names.items()}
    return [hop.name or hop.address for hop in trace(pod, address, names)]


def _way(lab: Lab, pod: Pod, address: Address) -> str:
    return " > ".join(_hops(lab, pod, address))


def _spine(lab: Lab, pod: Pod, other: Pod) -> str:
    """The spine that the first family's packets go by."""

    def find() -> str | None:
        return next((name for name in _hops(lab, pod, other.addresses[0]) if "spine" in name), None)

    return until(find, "a spine answers")


def _counted(found: Streamed) -> str:
    outage = f", nothing came for {1000 * found.outage:.0f} ms" if found.lost else ""
    return f"[bold]IPv{found.address.version}: {found.lost} of {found.sent} packets lost[/]{outage}"


def _run(lab: Lab, where: str, *command: str) -> None:
    """Run a command at a place and show it with what it says."""
    host, environment = lab.place(where)
    _console.print(f"[dim]$ coil-lab shell {where} -- {' '.join(command)}[/]")
    shown = host.run(*command, env={**os.environ, **environment}).stdout
    _console.print(escape(shown.strip("\n")))


def _event(text: str) -> None:
    _console.print(f"\n[bold yellow]--[/] [bold]{escape(text)}[/]")


def _say(text: str) -> None:
    _console.print(f"\n[bold cyan]==>[/] [bold]{escape(text)}[/]")


if __name__ == "__main__":
    sys.exit(main())
