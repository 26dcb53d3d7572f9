"""What a lab is like now, as plain values: what ``coil-lab status --output json`` prints.

Everything is asked anew, of the kernel, of BIRD, of coild and of etcd; who does not answer is shown
as not answering. docs/cmd-coil-lab.md describes the values.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from coil.lab.clos import fabric
from coil.lab.clos.fabric import each
from coil.lab.clos.lab import Lab
from coil.lab.clos.machines import BIRD, COILD, CONTROLLER, ETCD, Machines
from coil.lab.clos.plan import Kind, Link, Machine
from coil.lab.clos.pods import Pod
from coil.lab.clos.programs import Program, executed_programs_of
from coil.lab.host import Host

Json = dict[str, Any]
Running = dict[Host, list[Program]]

UP, OFF, RUNNING, SUSPENDED, STOPPED = "up", "off", "running", "suspended", "stopped"


def observe(lab: Lab) -> Json:
    """The whole state. Raises NoLab. Takes tens of milliseconds for a small lab."""
    machines = lab.machines
    plan = machines.plan
    everyone = list(plan.machines.values())
    running = executed_programs_of(lab.files.host(machine) for machine in everyone)
    rows = each(lambda machine: _machine(machines, machine, running), everyone)
    described = dict(zip(plan.machines, rows, strict=True))
    nodes = plan.of_kind(Kind.NODE)
    blocks = each(lambda node: _blocks(machines, described[node.name]), nodes)
    leader = machines.leader()
    links = fabric.link_states(lab.files, plan)
    state = {
        "name": lab.name,
        "shape": asdict(plan.shape),
        "store": machines.store,
        "routers": [described[m.name] for m in plan.of_kind(Kind.SPINE, Kind.TOR)],
        "nodes": [described[m.name] | found for m, found in zip(nodes, blocks, strict=True)],
        "etcd": [
            described[m.name]
            | {"endpoint": machines.member(m).endpoint, "leader": m.name == leader}
            for m in plan.of_kind(Kind.ETCD)
        ],
        "pods": [_pod(pod) for pod in lab.pods.every()],
        "links": [_link(link, found) for link, found in links.items()],
    }
    return {**state, "failed": list(_failures(state))}


def _machine(machines: Machines, machine: Machine, running: Running) -> Json:
    host = machines.files.host(machine)
    found = {program.name: program for program in running[host]}
    row = {
        "name": machine.name,
        "kind": machine.kind.value,
        "rack": machine.rack,
        "asn": machine.asn,
        "addresses": list(map(str, machine.loopbacks)),
        "namespace": host.name,
        "state": UP if fabric.exists(host) else OFF,
        "bird": _told(found.get(BIRD)),
        "bgp": machines.sessions(machine) if _told(found.get(BIRD)) == RUNNING else {},
        "routes": machines.count_routes(machine) if _told(found.get(BIRD)) == RUNNING else 0,
    }
    if machine.kind is Kind.NODE:
        row[COILD] = _told(found.get(COILD))
    if machine in machines.plan.controllers:
        row["controller"] = _told(found.get(CONTROLLER))
    if machine.kind is Kind.ETCD:
        row[ETCD] = _told(found.get(ETCD))
    return row


def _told(program: Program | None) -> str:
    if program is None:
        return STOPPED
    return SUSPENDED if program.suspended else RUNNING


def _blocks(machines: Machines, row: Json) -> Json:
    """As coild tells; nothing while it does not answer."""
    node = machines.plan.machines[row["name"]]
    runs = row[COILD] == RUNNING
    status = machines.ask(node, "/status") if runs else None
    return {
        "socket": str(machines.node(node).socket),
        "blocks": (runs and machines.ask(node, "/blocks")) or [],
        "problems": status["problems"] if isinstance(status, dict) else [],
    }


def _pod(pod: Pod) -> Json:
    return {
        "name": pod.name,
        "node": pod.node,
        "addresses": list(map(str, pod.addresses)),
        "namespace": pod.host.name,
        "container_id": pod.container_id,
    }


def _link(link: Link, state: str) -> Json:
    return {
        "ends": [end.machine.name for end in link.ends],
        "ifnames": [end.ifname for end in link.ends],
        "addresses": [list(map(str, end.addresses)) for end in link.ends],
        "state": state,
    }


def _failures(state: Json) -> list[str]:
    """What is not as ``up`` made it, in the words of ``coil-lab heal``."""
    routers, nodes, members = state["routers"], state["nodes"], state["etcd"]
    found = [f"router {row['name']}" for row in routers if row["state"] == OFF]
    found += [f"node {row['name']}" for row in nodes if row["state"] == OFF]
    found += [f"etcd {row['name']}" for row in members if row[ETCD] != RUNNING]
    found += [
        f"coild {row['name']}" for row in nodes if row["state"] == UP and row[COILD] != RUNNING
    ]
    found += [
        f"controller {row['name']}"
        for row in nodes
        if row["state"] == UP and row.get("controller", RUNNING) != RUNNING
    ]
    everyone = [*routers, *nodes, *members]
    found += [
        f"bird {row['name']}" for row in everyone if row["state"] == UP and row["bird"] != RUNNING
    ]
    off = {row["name"] for row in everyone if row["state"] == OFF}
    return found + [
        f"link {' '.join(row['ends'])}"
        for row in state["links"]
        if row["state"] != UP and not off & set(row["ends"])
    ]
