"""The picture of a lab in a terminal, drawn from what ``observe`` tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

Json = dict[str, Any]

_BAR = 8
"""Characters for a block's addresses."""
_GOOD, _BAD = "green", "bold red"


def show(state: Json, console: Console) -> None:
    """Draw spines, then racks with ToR, nodes, pods and etcd members, then what has failed."""
    shape = state["shape"]
    pods = len(state["pods"])
    families = " + ".join(f"IPv{version}" for version in shape["families"])
    console.print(
        f"[bold]{state['name']}[/]  {shape['spines']} spines, {shape['racks']} racks, "
        f"{len(state['nodes'])} nodes, etcd of {len(state['etcd'])}, "
        f"{pods} pod{'s' * (pods != 1)}, {families}"
    )
    spines = [row for row in state["routers"] if row["kind"] == "spine"]
    console.print(Columns([_spine(state, row) for row in spines]))
    tors = [row for row in state["routers"] if row["kind"] == "tor"]
    console.print(Columns([_rack(state, row) for row in tors]))
    if state["failed"]:
        console.print("[bold red]failed[/]")
        for words in state["failed"]:
            console.print(f"  {words}    [dim]coil-lab heal {words}[/]")


def _spine(state: Json, row: Json) -> Panel:
    return _panel(row, [*_links(state, row["name"])])


def _rack(state: Json, tor: Json) -> Panel:
    inside = [row for row in state["nodes"] if row["rack"] == tor["rack"]]
    members = [row for row in state["etcd"] if row["rack"] == tor["rack"]]
    links = {
        row["ends"][1]: row["state"] for row in state["links"] if row["ends"][0] == tor["name"]
    }
    lines: list[RenderableType] = [Text(f"up   {' '.join(tor['addresses'])}", style="dim")]
    lines += _links(state, tor["name"], lower=False)
    for node in inside:
        lines += _node(state, node, links.get(node["name"], "off"))
    for member in members:
        lines.append(_member(member, links.get(member["name"], "off")))
    title = f"rack {tor['rack']}  {tor['name']}"
    return _panel({**tor, "name": title}, lines[1:])


def _panel(row: Json, lines: list[RenderableType]) -> Panel:
    good = row["state"] == "up" and row["bird"] == "running"
    title = f"{row['name']}  AS {row['asn']}" + ("" if good else "  OFF")
    return Panel(Group(*lines), title=title, border_style=_GOOD if good else _BAD, expand=False)


def _links(state: Json, name: str, *, lower: bool = True) -> Iterator[Text]:
    """The links of a router that lead down, or up."""
    near = 0 if lower else 1
    for row in state["links"]:
        if row["ends"][near] == name:
            yield _mark(row["ends"][1 - near], row["state"], row["state"] == "up")


def _node(state: Json, node: Json, link: str) -> Iterator[RenderableType]:
    states = [node["state"]]
    if node["state"] == "up":
        states += [] if link == "up" else [f"link {link}"]
        told = {name: node.get(name, "running") for name in ("bird", "coild", "controller")}
        states += [f"{name} {state}" for name, state in told.items() if state != "running"]
    roles = ["controller"] if node.get("controller") == "running" else []
    yield _mark(node["name"], ", ".join(states + roles), states == ["up"])
    for block in node["blocks"]:
        yield _block(block)
    for pod in state["pods"]:
        if pod["node"] == node["name"]:
            yield Text(f"    {pod['name']}  {' '.join(pod['addresses'])}")


def _block(block: Json) -> Text:
    """One block: how full it is, what cools in it, what it is called."""
    size = block["size"]
    used = -(-block["used"] * _BAR // size)
    cooling = min(_BAR - used, -(-block["cooling"] * _BAR // size))
    text = Text("  ").append("█" * used, "cyan").append("▒" * cooling, "yellow")
    text.append("░" * (_BAR - used - cooling), "dim")
    return text.append(f" {block['used']:>2}/{size} {' '.join(block['networks'])}", "dim")


def _member(member: Json, link: str) -> Text:
    words = member["etcd"] if member["state"] == "up" else "off"
    words += ", leader" if member["leader"] else ""
    words += "" if link == "up" else f", link {link}"
    return _mark(member["name"], words, member["etcd"] == "running" and link == "up")


def _mark(name: str, words: str, good: bool) -> Text:  # noqa: FBT001 - the colour of a line
    return Text("● ", _GOOD if good else _BAD).append(name, "bold").append(f"  {words}")
