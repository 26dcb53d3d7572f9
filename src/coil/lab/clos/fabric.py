"""Namespaces and links of a lab, made equal to the plan from whatever is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from coil.lab.clos.files import Files
from coil.lab.clos.plan import End, Link, Machine, Plan
from coil.lab.host import Host, run
from coil.lab.wait import until

T = TypeVar("T")
R = TypeVar("R")

_WORKERS = 8
"""Most of the work is waiting for ip(8) to start."""
_CUT = "blackhole"
"""The queue that takes each packet and tells nobody (net/sched/sch_blackhole.c)."""
_NETNS = Path("/proc/self/ns/net")
_FORWARDING = {4: "net.ipv4.ip_forward=1", 6: "net.ipv6.conf.all.forwarding=1"}
_SYSCTLS = {
    # Traffic of one flow takes one way, that of several is spread, by ports as well.
    4: ["net.ipv4.fib_multipath_hash_policy=1"],
    6: ["net.ipv6.fib_multipath_hash_policy=1"],
}


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do ``work`` for every item, several at once; short work, as it is waited for."""
    with ThreadPoolExecutor(_WORKERS) as threads:
        return list(threads.map(work, items))


def build(files: Files, plan: Plan, machines: Sequence[Machine]) -> None:
    """Make these machines' namespaces, links and addresses, where they are missing. Idempotent."""
    missing = [m for m in machines if not exists(files.host(m))]
    # A kill between ip's making of the file and of the namespace leaves an empty file behind.
    stale = [files.host(m) for m in missing if files.host(m).path.exists()]
    delete(stale)
    _batch([f"netns add {files.host(machine).name}" for machine in missing])
    links = [link for link in plan.links if any(end.machine in machines for end in link.ends)]
    present = {m for m in plan.machines.values() if exists(files.host(m))}
    links = [link for link in links if all(end.machine in present for end in link.ends)]
    _connect(files, links)
    ends: dict[Machine, list[End]] = {machine: [] for machine in machines}
    for end in (end for link in links for end in link.ends):
        ends.setdefault(end.machine, []).append(end)
    each(lambda machine: _configure(files.host(machine), machine, ends[machine]), ends)
    _settle(files, links)


def exists(host: Host) -> bool:
    """Whether there is a namespace, not only a file that was to become one."""
    try:
        return host.path.stat().st_dev == _NETNS.stat().st_dev
    except FileNotFoundError:
        return False


def delete(hosts: Iterable[Host]) -> None:
    """Delete namespaces with all that is in them; their links go, at both ends. Idempotent."""
    _batch([f"netns delete {host.name}" for host in hosts if host.path.exists()], "-force")


def power_off(files: Files, plan: Plan, machine: Machine) -> None:
    """Delete a machine's namespace. Its neighbours have lost their links when this returns.

    The links go first: what the kernel does about a namespace it does later, when it has time.
    """
    host = files.host(machine)
    there = links_of(host)
    near = [end.ifname for end, _far in plan.links_of(machine) if end.ifname in there]
    _batch([f"link delete {ifname}" for ifname in near], "-n", host.name)
    delete([host])


def cut(files: Files, link: Link) -> None:
    """Lose every packet on a link, both ways, and tell nobody: both ends stay up. Idempotent.

    So it is with a switch or a media converter in between, or a laser that has gone blind. Whoever
    wants to notice has to listen, which is what BFD is for; a cut that takes the carrier with it
    would be told by the kernel at once.
    """
    for end in link.ends:
        run(_tc(files, end, "replace", _CUT))


def mend(files: Files, link: Link) -> None:
    """Undo ``cut``. Idempotent."""
    for end in link.ends:
        if _is_cut(links_of(files.host(end.machine)).get(end.ifname, {})):
            run(_tc(files, end, "delete"))


def _tc(files: Files, end: End, verb: str, *queue: str) -> list[str]:
    name = files.host(end.machine).name
    return ["tc", "-netns", name, "qdisc", verb, "dev", end.ifname, "root", *queue]


def links_of(host: Host) -> dict[str, dict[str, object]]:
    """What ``ip -j link`` says of a namespace's links, by name; nothing when it is off."""
    if not exists(host):
        return {}
    done = run(["ip", "-j", "-n", host.name, "link", "show"], check=False)
    return {row["ifname"]: row for row in json.loads(done.stdout or "[]")}


def link_states(files: Files, plan: Plan) -> dict[Link, str]:
    """Each link's state: ``up``, ``cut`` (see ``cut``), ``down`` (no carrier), or ``off``.

    Both ends of a link show the same, so that only the ToRs are asked: each link has one.
    """
    seen = {link.upper.machine for link in plan.links} | {link.lower.machine for link in plan.links}
    asked = [machine for machine in seen if machine.kind == "tor"]
    rows = dict(zip(asked, each(lambda m: links_of(files.host(m)), asked), strict=True))
    states = {}
    for link in plan.links:
        end = next(end for end in link.ends if end.machine in rows)
        states[link] = _state(rows[end.machine].get(end.ifname))
    return states


def _state(row: dict[str, object] | None) -> str:
    if row is None:
        return "off"
    if _is_cut(row):
        return "cut"
    return "up" if row.get("operstate") == "UP" else "down"


def _is_cut(row: dict[str, object]) -> bool:
    return row.get("qdisc") == _CUT


def _connect(files: Files, links: Sequence[Link]) -> None:
    """Make the links that are not there."""
    hosts = {end.machine: files.host(end.machine) for link in links for end in link.ends}
    there = dict(zip(hosts, each(links_of, hosts.values()), strict=True))
    missing = [link for link in links if link.upper.ifname not in there[link.upper.machine]]
    _batch([_veth(files, link) for link in missing])


def _veth(files: Files, link: Link) -> str:
    one, other = (f"name {e.ifname} netns {files.host(e.machine).name}" for e in link.ends)
    return f"link add {one} type veth peer {other}"


def _configure(host: Host, machine: Machine, ends: Sequence[End]) -> None:
    """Addresses, links up, forwarding."""
    _batch(list(_commands(machine, ends)), "-n", host.name)
    versions = [address.version for address in machine.loopbacks]
    settings = [name for version in versions for name in _SYSCTLS[version]]
    if machine.kind.is_router:
        settings += [_FORWARDING[version] for version in versions]
    host.run("sysctl", "-qw", *settings)


def _commands(machine: Machine, ends: Sequence[End]) -> Iterator[str]:
    for address in machine.loopbacks:
        yield f"addr replace {address}/{address.max_prefixlen} dev lo"
    yield "link set lo up"
    for end in ends:
        for address in end.addresses:
            # Nobody else is on the wire: duplicate address detection would only take a second.
            nodad = " nodad" if address.version == 6 else ""
            length = address.max_prefixlen - 1
            yield f"addr replace {address}/{length} dev {end.ifname}{nodad}"
        yield f"link set {end.ifname} up"


def _settle(files: Files, links: Sequence[Link]) -> None:
    """Wait until the links carry. Looking makes it so (NetlinkSocket.settle_carrier)."""
    pending = {end.machine for link in links for end in link.ends}
    names = {m: {e.ifname for k in links for e in k.ends if e.machine == m} for m in pending}

    def carries(machine: Machine) -> bool:
        rows = links_of(files.host(machine))
        return all(rows.get(name, {}).get("operstate") == "UP" for name in names[machine])

    def all_carry() -> bool:
        found = list(pending)
        pending.difference_update(
            machine for machine, ok in zip(found, each(carries, found), strict=True) if ok
        )
        return not pending

    until(all_carry, "the links carry", 30)


def _batch(commands: Sequence[str], *options: str) -> None:
    """Run many commands of ip(8) in one process, which ends when this one is killed.

    Else it would go on beside the next ``up``, and either would find what the other had made.
    """
    if commands:
        argv = ["setpriv", "--pdeathsig", "KILL", "ip", *options, "-batch", "-"]
        run(argv, input="\n".join(commands) + "\n", seconds=120)
