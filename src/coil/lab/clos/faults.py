"""What can break in a lab, and be healed: links, machines, programs.

Everything here can be repeated, and heals whoever broke it. What is broken is seen from outside
(``observe``): nothing is remembered of it.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from coil.lab.clos import fabric
from coil.lab.clos.files import Files
from coil.lab.clos.machines import BIRD, COILD, CONTROLLER, ETCD, Machines
from coil.lab.clos.plan import Kind, Machine, Plan, UnknownName
from coil.lab.clos.pods import Pods
from coil.lab.clos.programs import end_all, executed_programs_of, programs_of
from coil.lab.errors import LabError
from coil.lab.wait import until


class How(StrEnum):
    """The ways a program stops."""

    KILL = "kill"
    """It ends at once; the kernel tells its peers."""
    SUSPEND = "suspend"
    """It does nothing more, and its peers are told nothing, as by a machine that hangs."""


LEADER = "leader"
_SIGNALS = {How.KILL: signal.SIGKILL, How.SUSPEND: signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Faults:
    """Breaks and heals parts of one lab. Raises NoLab, UnknownName."""

    files: Files

    def fail_link(self, one: str, other: str) -> None:
        """Lose every packet between two machines; nothing tells them."""
        with self._machines() as machines:
            self._check_on(machines.plan, one, other)
            fabric.cut(self.files, machines.plan.get_link(one, other))

    def heal_link(self, one: str, other: str) -> None:
        """Let packets pass again. BFD and BGP take a few seconds to trust the link."""
        with self._machines() as machines:
            link = machines.plan.get_link(one, other)
            self._check_on(machines.plan, one, other)
            fabric.mend(self.files, link)

    def fail_node(self, name: str) -> None:
        """Power off: its programs and pods are gone at once, its ToR loses the carrier."""
        with self._machines() as machines:
            node = machines.plan.get_machine(name, Kind.NODE)
            self._power_off(machines.plan, node)
            # Afterwards: until then pods may be added there.
            Pods(self.files).lose(node)
            # /run of a real node: nothing of it survives.
            shutil.rmtree(machines.node(node).directory / "state", ignore_errors=True)

    def heal_node(self, name: str) -> None:
        """Power on: it boots, without pods. Returns when its coild serves."""
        with self._machines() as machines:
            self.boot(machines, [machines.plan.get_machine(name, Kind.NODE)])

    def fail_router(self, name: str) -> None:
        """Power off a spine or a ToR."""
        with self._machines() as machines:
            plan = machines.plan
            self._power_off(plan, plan.get_machine(name, Kind.SPINE, Kind.TOR))

    def heal_router(self, name: str) -> None:
        """Power on. BGP takes a few seconds more."""
        with self._machines() as machines:
            self.boot(machines, [machines.plan.get_machine(name, Kind.SPINE, Kind.TOR)])

    def fail_etcd(self, name: str, how: How = How.KILL) -> str:
        """Stop an etcd member; its host stays. ``leader``: whichever leads. Returns its name."""
        with self._machines() as machines:
            if name == LEADER:
                name = _leader(machines)
            self._stop(machines.plan.get_machine(name, Kind.ETCD), ETCD, how)
            return name

    def heal_etcd(self, name: str) -> None:
        """Let the member go on with what it knew. Returns when it serves, if a majority runs."""
        with self._machines() as machines:
            plan = machines.plan
            self._resume([plan.get_machine(name, Kind.ETCD)])
            machines.start_etcd(plan.get_machine(name, Kind.ETCD))
            if machines.has_majority():
                machines.wait_etcd([plan.get_machine(name, Kind.ETCD)])

    def fail_coild(self, name: str, how: How = How.KILL) -> None:
        """Stop coild of a node; its pods and routes stay."""
        with self._machines() as machines:
            self._check_on(machines.plan, name)
            self._stop(machines.plan.get_machine(name, Kind.NODE), COILD, how)

    def heal_coild(self, name: str) -> None:
        """Start coild, or let it go on. Returns when it serves."""
        with self._machines() as machines:
            self._check_on(machines.plan, name)
            node = machines.plan.get_machine(name, Kind.NODE)
            self._resume([node])
            machines.start_coilds([node])
            machines.wait_coild([node])

    def fail_bird(self, name: str, how: How = How.KILL) -> None:
        """Stop the routing daemon of a machine; the routes it made stay in the kernel."""
        with self._machines() as machines:
            self._check_on(machines.plan, name)
            self._stop(machines.plan.get_machine(name), BIRD, how)

    def heal_bird(self, name: str) -> None:
        """Start it, or let it go on. BGP takes a few seconds more."""
        with self._machines() as machines:
            self._check_on(machines.plan, name)
            machine = machines.plan.get_machine(name)
            self._resume([machine])
            machines.start_bird(machine)

    def fail_controller(self, name: str, how: How = How.KILL) -> None:
        """Stop coil-controller of a node; another leads some seconds later."""
        with self._machines() as machines:
            node = _with_controller(machines.plan, name)
            self._check_on(machines.plan, name)
            self._stop(node, CONTROLLER, how)

    def heal_controller(self, name: str) -> None:
        """Start coil-controller, or let it go on. Returns when it serves."""
        with self._machines() as machines:
            node = _with_controller(machines.plan, name)
            self._check_on(machines.plan, name)
            self._resume([node])
            machines.start_controller(node)
            machines.wait_controllers([node])

    def boot(self, machines: Machines, which: list[Machine]) -> None:
        """Power on machines that are off: links, BIRD, and on nodes coild and the rest."""
        fabric.build(self.files, machines.plan, which)
        fabric.each(machines.start_bird, which)
        nodes = [machine for machine in which if machine.kind is Kind.NODE]
        controllers = [node for node in nodes if node in machines.plan.controllers]
        machines.start_coilds(nodes)
        fabric.each(machines.start_controller, controllers)
        machines.wait_coild(nodes)
        machines.wait_controllers(controllers)

    @contextmanager
    def _machines(self) -> Iterator[Machines]:
        with self.files.shared() as shape:
            yield Machines(self.files, Plan(shape))

    def _check_on(self, plan: Plan, *names: str) -> None:
        for machine in map(plan.get_machine, names):
            if not fabric.exists(self.files.host(machine)):
                kind = "router" if machine.kind.is_router else "node"
                raise LabError(
                    f"{machine.name} is off; heal it first: coil-lab heal {kind} {machine.name}"
                )

    def _power_off(self, plan: Plan, machine: Machine) -> None:
        end_all([self.files.host(machine)])
        fabric.power_off(self.files, plan, machine)

    def _stop(self, machine: Machine, program: str, how: How) -> None:
        host = self.files.host(machine)

        def is_stopped() -> bool:
            found = [p for p in executed_programs_of([host])[host] if p.name == program]
            left = [p for p in found if how is How.KILL or not p.suspended]
            for one in left:
                one.signal(_SIGNALS[how])
            return not left

        until(is_stopped, f"{program} of {machine.name} stops")

    def _resume(self, machines: list[Machine]) -> None:
        resume_all(self.files, machines)


def _leader(machines: Machines) -> str:
    """The member of etcd that leads. Raises LabError."""
    found = machines.ask_leader()
    if found is None:
        raise LabError(
            "who leads etcd is not known: a member that runs does not answer; try again, or name a "
            "member"
        )
    if not found:
        raise LabError("etcd has no leader now; name a member")
    return found


def _with_controller(plan: Plan, name: str) -> Machine:
    """A node that has a controller. Raises UnknownName."""
    node = plan.get_machine(name, Kind.NODE)
    if node not in plan.controllers:
        known = ", ".join(each.name for each in plan.controllers)
        raise UnknownName(f"{name} has no controller; {known} have one")
    return node


def resume_all(files: Files, machines: list[Machine]) -> None:
    """Let every suspended program of these machines go on."""
    for programs in programs_of(files.host(machine) for machine in machines).values():
        for program in programs:
            if program.suspended:
                program.signal(signal.SIGCONT)
