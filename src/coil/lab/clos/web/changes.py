"""What has happened between two states of a lab, in words; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]
Change = tuple[str, str]
"""``good``, ``bad`` or ``info``, and a sentence."""

_PROGRAMS = ("bird", "coild", "controller", "etcd")


def changes(before: Json, after: Json) -> list[Change]:
    """Machines, programs, links, BGP, blocks, pods, in this order: causes before what follows."""
    return [
        *_machines(before, after),
        *_links(before, after),
        *_bgp(before, after),
        *_leader(before, after),
        *_blocks(before, after),
        *_pods(before, after),
        *_problems(before, after),
    ]


def _rows(state: Json) -> dict[str, Json]:
    return {row["name"]: row for kind in ("routers", "nodes", "etcd") for row in state[kind]}


def _pairs(before: Json, after: Json) -> Iterator[tuple[str, Json, Json]]:
    old, new = _rows(before), _rows(after)
    return ((name, old[name], row) for name, row in new.items() if name in old)


def _machines(before: Json, after: Json) -> Iterator[Change]:
    for name, old, new in _pairs(before, after):
        if old["state"] != new["state"]:
            yield _turn(new["state"] == "up", f"{name} is on", f"{name} is off")
        if new["state"] != "up":
            continue
        for program in _PROGRAMS:
            if old.get(program) != new.get(program):
                what = f"{program} of {name}"
                told = f"{what} is {new[program]}"
                yield _turn(new[program] == "running", f"{what} runs", told)


def _links(before: Json, after: Json) -> Iterator[Change]:
    old = {tuple(row["ends"]): row["state"] for row in before["links"]}
    for row in after["links"]:
        ends, state = tuple(row["ends"]), row["state"]
        if old.get(ends, state) != state and state != "off":
            what = f"link {' - '.join(ends)}"
            how = "loses every packet" if state == "cut" else "has no carrier"
            yield _turn(state == "up", f"{what} is up", f"{what} {how}")


def _bgp(before: Json, after: Json) -> Iterator[Change]:
    """By pairs of machines that are on: both ends and both families tell the same."""
    up, was_up = _neighbours(after), _neighbours(before)
    for pair in _linked(after):
        if (pair in up) != (pair in was_up):
            what = f"BGP {' - '.join(pair)}"
            yield _turn(pair in up, f"{what} is up", f"{what} is down")


def _neighbours(state: Json) -> set[tuple[str, ...]]:
    """Pairs of which each session that is known of is established, at both ends."""
    rows = _rows(state)
    return {
        (one, other)
        for one, other in (row["ends"] for row in state["links"])
        if _talks(rows[one], other) and _talks(rows[other], one)
    }


def _talks(row: Json, other: str) -> bool:
    found = [how for name, how in row["bgp"].items() if name.rpartition("_")[0] == other]
    return bool(found) and all(how == "Established" for how in found)


def _linked(state: Json) -> Iterator[tuple[str, ...]]:
    on = {name for name, row in _rows(state).items() if row["state"] == "up"}
    return (tuple(row["ends"]) for row in state["links"] if on.issuperset(row["ends"]))


def _leader(before: Json, after: Json) -> Iterator[Change]:
    old, new = (next((m["name"] for m in s["etcd"] if m["leader"]), "") for s in (before, after))
    if old != new:
        yield ("info", f"{new} leads etcd") if new else ("bad", "etcd has no leader")


def _blocks(before: Json, after: Json) -> Iterator[Change]:
    """A node that tells of no block at all is one that does not answer."""
    for name, old, new in _pairs(before, after):
        rows, were = new.get("blocks"), old.get("blocks")
        if rows and were:
            yield from _owned(name, _by_network(were), _by_network(rows))


def _owned(name: str, old: dict[str, bool], new: dict[str, bool]) -> Iterator[Change]:
    yield from (("info", f"{name} took block {block}") for block in new if block not in old)
    yield from (("info", f"{name} gave back block {block}") for block in old if block not in new)
    for block, exported in new.items():
        if old.get(block, exported) != exported:
            yield _turn(exported, f"{name} announces {block}", f"{name} withdrew {block}")


def _by_network(blocks: Iterable[Json]) -> dict[str, bool]:
    return {block["networks"][0]: block["exported"] for block in blocks}


def _pods(before: Json, after: Json) -> Iterator[Change]:
    old, new = ({pod["container_id"]: pod for pod in state["pods"]} for state in (before, after))
    yield from (("info", f"pod {old[key]['name']} is gone") for key in old if key not in new)
    for key, pod in new.items():
        if key not in old:
            yield "info", f"pod {pod['name']} on {pod['node']}: {' '.join(pod['addresses'])}"


def _problems(before: Json, after: Json) -> Iterator[Change]:
    for name, old, new in _pairs(before, after):
        was, now = (
            {str(problem): problem for problem in row.get("problems", [])} for row in (old, new)
        )
        yield from (("bad", f"{name}: {_told(now[key])}") for key in now if key not in was)


def _told(problem: object) -> str:
    return str(problem.get("message", problem)) if isinstance(problem, dict) else str(problem)


def _turn(good: bool, better: str, worse: str) -> Change:  # noqa: FBT001 - which of two it is
    return ("good", better) if good else ("bad", worse)
