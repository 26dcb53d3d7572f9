"""A whole lab, as a program or a test uses it."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from coil.domain.errors import RequestError
from coil.lab.clos import fabric
from coil.lab.clos.fabric import each
from coil.lab.clos.faults import Faults, resume_all
from coil.lab.clos.files import Files
from coil.lab.clos.machines import Machines
from coil.lab.clos.plan import Kind, Plan, Shape, UnknownName
from coil.lab.clos.pods import Pod, Pods
from coil.lab.clos.programs import end_all
from coil.lab.errors import LabError
from coil.lab.host import Host
from coil.lab.node import PLUGIN
from coil.lab.wait import until

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and how much there is."""

_TOOLS = (
    "ip", "tc", "nsenter", "setpriv", "setsid", "sysctl", "ping", "traceroute",
    "bird", "etcd", "etcdctl",
)  # fmt: skip
_MEMBER_SPACE = 140 << 20
"""Bytes: two segments of etcd's log of 64 MB, made at its start, and some more."""
POOL = "default"
_SUBNETS = {4: "10.64.0.0/16", 6: "fd00:64::/112"}


def quiet(_step: str, _done: int, _total: int) -> None:
    """Report to nobody."""


class Lab:
    """One lab, by its name. An object holds nothing: any number may speak of the same lab."""

    def __init__(self, name: str = "lab") -> None:
        """Raises RequestError for a name that cannot be."""
        self.name = name
        self.files = Files(name)
        self.pods = Pods(self.files)
        self.faults = Faults(self.files)

    @property
    def exists(self) -> bool:
        """Whether it was brought up (perhaps not to the end) and not taken down."""
        return self.files.find_shape() is not None

    @property
    def plan(self) -> Plan:
        """What it consists of. Raises NoLab."""
        return Plan(self.files.get_shape())

    @property
    def machines(self) -> Machines:
        """The programs of its machines. Raises NoLab."""
        return Machines(self.files, self.plan)

    def up(self, shape: Shape, report: Report = quiet) -> None:
        """Make the lab, or what is missing of it: failures are healed, too. Idempotent.

        A lab that did not exist is removed again when this fails or is interrupted. Raises LabError
        when another shape is up.
        """
        _check_tools()
        with self.files.alone():
            there = self.files.find_shape()
            if there not in (None, shape):
                raise LabError(
                    f"lab {self.name} is up with other numbers ({_told(there)}); take it down "
                    "first, or choose another --name"
                )
            if there is None:
                _check_space(self.files, shape)
            try:
                self.files.write_shape(shape)
                self._bring_up(report)
            except BaseException:
                if there is None:
                    self._sweep()
                raise

    def add_pod(self, name: str, node: str) -> Pod:
        """Start a pod on a node. Idempotent. Raises LabError when the plugin refuses it."""
        with self.files.shared() as shape:
            plan = Plan(shape)
            if name in plan.machines:
                raise RequestError(f"{name} is the name of a machine; call the pod something else")
            return self.pods.add(name, plan.get_machine(node, Kind.NODE))

    def get_pod(self, name: str) -> Pod:
        """A pod by name. Raises NoLab, UnknownName."""
        self.files.get_shape()
        return self.pods.get(name)

    def delete_pod(self, name: str) -> bool:
        """End a pod; returns False when there was none. Idempotent."""
        with self.files.shared():
            return self.pods.delete(name)

    def place(self, where: str) -> tuple[Host, dict[str, str]]:
        """The namespace of a machine or a pod, and the environment of a shell there.

        Raises UnknownName, and LabError where the machine is off.
        """
        machines = self.machines
        machine = machines.plan.machines.get(where)
        if machine is None:
            try:
                return self.pods.get(where).host, {}
            except UnknownName as exc:
                known = ", ".join(
                    [*machines.plan.machines, *(pod.name for pod in self.pods.every())]
                )
                raise UnknownName(f"the lab has no {where!r}; it has {known}") from exc
        host = self.files.host(machine)
        if not fabric.exists(host):
            raise LabError(f"{where} is off; coil-lab status tells how to heal it")
        return host, machines.environment(machine)

    def down(self) -> bool:
        """End and delete all of it, whatever is left. Returns False when there was nothing."""
        if not self.files.directory.exists() and not self.files.hosts():
            return False
        with self.files.alone():
            self._sweep()
        return True

    def _bring_up(self, report: Report) -> None:
        machines = self.machines
        plan = machines.plan
        everyone = list(plan.machines.values())
        report("namespaces and links", 0, len(everyone))
        fabric.build(self.files, plan, everyone)
        for link, state in fabric.link_states(self.files, plan).items():
            if state == "cut":
                fabric.mend(self.files, link)
        report("namespaces and links", len(everyone), len(everyone))
        resume_all(self.files, everyone)
        each(machines.start_bird, everyone)
        members, nodes = plan.of_kind(Kind.ETCD), plan.of_kind(Kind.NODE)
        machines.wait_sessions(_counted(report, "BIRD on every machine", len(everyone)))
        each(machines.start_etcd, members)
        machines.wait_etcd(members, _counted(report, "etcd", len(members)))
        self._make_pool(machines)
        machines.start_coilds(nodes)
        each(machines.start_controller, plan.controllers)
        machines.wait_coild(nodes, _counted(report, "coild on every node", len(nodes)))
        machines.wait_controllers(plan.controllers)

    def _make_pool(self, machines: Machines) -> None:
        """From the first member's host, which certainly reaches etcd. Asked again: it may be slow.

        Raises LabError with coilctl's last words.
        """
        subnets = ",".join(_SUBNETS[version] for version in machines.plan.shape.families)
        node = machines.node(machines.plan.of_kind(Kind.ETCD)[0])
        cool_down = f"{machines.plan.shape.cool_down}s"
        told: list[str] = []

        def is_made() -> bool:
            done = node.ctl("pool", "create", POOL, subnets, "--cool-down", cool_down, check=False)
            told[:] = [done.stderr.strip()]
            # One that nobody confirmed may have been made all the same.
            return done.returncode == 0 or "exists" in done.stderr

        until(is_made, lambda: ": ".join(["the pool is made", *told]))

    def _sweep(self) -> None:
        """Until nothing of it is found any more: children of a command that was killed go on."""
        told: list[str] = []

        def is_clean() -> bool:
            hosts = self.files.hosts()
            end_all(hosts)
            try:
                fabric.delete(hosts)
            except LabError as exc:  # what such a child is just making
                told[:] = [exc.message]
            return not hosts

        until(is_clean, lambda: ": ".join([f"lab {self.name} goes", *told]), 60)
        self.files.remove()


def _check_tools() -> None:
    """Before anything is made. Raises LabError that says how to get what is missing."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"{', '.join(missing)} not found in PATH; make lab installs all it needs")
    if not PLUGIN.exists():
        raise LabError(f"the plugin {PLUGIN} is not built; make build does it")


def _check_space(files: Files, shape: Shape) -> None:
    """Before etcd ends with a panic for want of it. Raises LabError, and leaves nothing."""
    needed = shape.etcd * _MEMBER_SPACE
    free = shutil.disk_usage(files.directory).free
    if free < needed:
        files.remove()
        raise LabError(
            f"{shape.etcd} members of etcd need {needed >> 20} MB, and {files.directory.parent} "
            f"has {free >> 20} MB left; make room (mount -o remount,size=1G /run, if that is a "
            "tmpfs) or take fewer: --etcd 1"
        )


def _counted(report: Report, step: str, total: int) -> Callable[[int], None]:
    report(step, 0, total)
    return lambda done: report(step, done, total)


def _told(shape: Shape | None) -> str:
    if shape is None:
        return "none"
    return (
        f"{shape.spines} spines, {shape.racks} racks of {shape.nodes_per_rack} nodes, etcd of "
        f"{shape.etcd}, {' and '.join(f'IPv{version}' for version in shape.families)}, cool-down "
        f"{shape.cool_down} s, grace {shape.grace} s"
    )
