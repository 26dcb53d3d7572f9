"""What runs on the machines of a lab.

BIRD on all, etcd on its members, coild on nodes, coil-controller on a few of them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coil.lab.bird import Bird
from coil.lab.clos.fabric import each, exists
from coil.lab.clos.files import Files
from coil.lab.clos.plan import Kind, Machine, Plan
from coil.lab.clos.programs import LAUNCHER, find_program, launch, programs_of
from coil.lab.errors import LabError
from coil.lab.etcd import EtcdMember
from coil.lab.node import PLUGIN, PROGRAMS, Node
from coil.lab.wait import until
from coil.speakers.bird import ask_bird
from coil.speakers.errors import SpeakerError

Json = dict[str, object]
Progress = Callable[[int], None]
"""Told how many are done."""

BIRD, ETCD, COILD, CONTROLLER = "bird", "etcd", "coild", "coil-controller"
_COILD = {COILD, LAUNCHER}
_PERIOD = 2
"""Seconds between passes of coild, and of the controller: a lab is for seeing nodes come and go."""
_LEASE = 6
"""Seconds, of the controller's lead; coild's own is as long, by its period."""
_CONTROLLER_PORT = 9385
_COUNT = re.compile(r"for (\d+) networks in table master[46]")
_READY_SECONDS = 60.0
_ASK_SECONDS = 5.0


def silent(_done: int) -> None:
    """Progress that nobody is told of."""


@dataclass(frozen=True, slots=True)
class Machines:
    """Starts and asks the programs of one lab. Starting what runs already changes nothing."""

    files: Files
    plan: Plan

    @property
    def store(self) -> str:
        """The URL that every coild has, and coilctl in a shell of the lab."""
        endpoints = ",".join(self.member(m).endpoint for m in self.plan.of_kind(Kind.ETCD))
        return f"etcd://{endpoints}/coil"

    def node(self, machine: Machine) -> Node:
        """A node, to run coilctl on it."""
        directory = self.files.of(machine)
        host = self.files.host(machine)
        return Node(host, directory, name=machine.name, store=self.store)

    def member(self, machine: Machine) -> EtcdMember:
        """An etcd member, to run etcdctl on it."""
        directory, host = self.files.of(machine), self.files.host(machine)
        return EtcdMember(machine.name, str(machine.address), directory, host)

    def environment(self, machine: Machine) -> dict[str, str]:
        """What makes coilctl, birdc and etcdctl speak to those of a machine."""
        directory = self.files.of(machine)
        members = [self.member(m).client_url for m in self.plan.of_kind(Kind.ETCD)]
        return {
            "PATH": f"{directory}/bin:{PROGRAMS}:{os.environ['PATH']}",
            "COIL_STORE": self.store,
            "COIL_SOCKET": str(self.node(machine).socket),
            "COIL_BIRD_SOCKET": str(self.bird(machine).socket),
            "COIL_CNI_BIN_DIR": str(PLUGIN.parent),
            "COIL_CNI_CONF_DIR": str(self.files.conflist(machine).parent),
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": ",".join(members),
            "PS1": f"{machine.name}# ",
        }

    def bird(self, machine: Machine) -> Bird:
        """The routing daemon of a machine, to run birdc on it."""
        return Bird(self.files.host(machine), self.plan.router(machine), self.files.of(machine))

    def start_bird(self, machine: Machine) -> None:
        """Start the routing daemon, with the configuration coilctl router-config prints.

        It is seen to run when this returns. Idempotent.
        """
        bird = self.bird(machine)
        if find_program(bird.host, BIRD):
            return
        bird.write_config()
        _write_birdc(bird)
        launch(bird.host, *bird.command, log=bird.log)
        find_program(bird.host, BIRD)

    def start_etcd(self, machine: Machine) -> None:
        """Start an etcd member; it is seen to run when this returns, and serves with a majority."""
        member = self.member(machine)
        member.directory.mkdir(parents=True, exist_ok=True)
        if find_program(self.files.host(machine), ETCD):
            return
        members = [self.member(m) for m in self.plan.of_kind(Kind.ETCD)]
        # Elections are slow to begin: a laptop that is busy is no reason for one, nor is a member
        # that was cut off and is back (etcd before 3.5 must be told so).
        options = ("--heartbeat-interval=200", "--election-timeout=2000", "--pre-vote")
        launch(self.files.host(machine), *member.command(members, *options), log=member.log)
        find_program(self.files.host(machine), ETCD)

    def start_coilds(self, machines: Iterable[Machine]) -> None:
        """Start coild on nodes; it answers a little later."""
        hosts = {self.files.host(machine): machine for machine in machines}
        running = programs_of(hosts)
        idle = [hosts[h] for h, found in running.items() if not {p.name for p in found} & _COILD]
        each(self.start_coild, idle)

    def start_coild(self, machine: Machine, *program: str | Path) -> None:
        """Start coild, or ``program`` in its place, on a node where none runs."""
        node = self.node(machine)
        node.directory.mkdir(parents=True, exist_ok=True)
        self.files.write_conflist(machine, node.socket)
        options = (f"--rack={machine.rack}", f"--period={_PERIOD}", "--config=/dev/null")
        command = node.command(*(program or (PROGRAMS / COILD,)), *options)
        launch(node.host, *command, log=node.log, env=_environment())

    def start_controller(self, machine: Machine) -> None:
        """Start coil-controller; the pools are there: it looks at their cool-downs."""
        host, directory = self.files.host(machine), self.files.of(machine)
        if find_program(host, CONTROLLER):
            return
        options = (
            f"--store={self.store}", f"--grace={self.plan.shape.grace}", "--short-grace",
            f"--period={_PERIOD}", f"--lease={_LEASE}",
            f"--metrics-addr=127.0.0.1:{_CONTROLLER_PORT}", "--config=/dev/null",
        )  # fmt: skip
        log = directory / f"{CONTROLLER}.log"
        launch(host, PROGRAMS / CONTROLLER, *options, log=log, env=_environment())

    def wait_controllers(self, machines: Sequence[Machine]) -> None:
        """Until these serve. Raises LabError with the log of one that ended."""

        def serves(machine: Machine) -> bool:
            program = find_program(self.files.host(machine), CONTROLLER)
            if program is None:
                log = self.files.of(machine) / f"{CONTROLLER}.log"
                raise _ended(machine, CONTROLLER, log)
            return program.listens(_CONTROLLER_PORT)

        _wait_all(lambda left: [m for m in left if not serves(m)], machines, CONTROLLER, silent)

    def wait_etcd(self, members: Sequence[Machine], progress: Progress = silent) -> None:
        """Until these members serve. Raises LabError with the log of one that ended."""

        def serves(machine: Machine) -> bool:
            member = self.member(machine)
            if not find_program(self.files.host(machine), ETCD):
                raise _ended(machine, ETCD, member.log)
            return member.ctl("endpoint", "health", check=False).returncode == 0

        _wait_all(lambda left: [m for m in left if not serves(m)], members, "etcd", progress)

    def wait_coild(self, machines: Sequence[Machine], progress: Progress = silent) -> None:
        """Until these answer. One that has ended is started again, as systemd would.

        A machine that comes back may have to wait until its own lease of before has ended. Where
        etcd can be reached they wait for its word on pools, without which no pod can start. Raises
        LabError with the log of one that does not come up.
        """
        pending = list(machines)
        # One that has no time to answer may lead.
        cluster = self.has_majority() and self.ask_leader() != ""

        def is_late(machine: Machine) -> bool:
            status = self.ask(machine, "/status")
            online = cluster and any(
                exists(self.files.host(far.machine)) for _near, far in self.plan.links_of(machine)
            )
            if not isinstance(status, dict):
                return True
            problems: Any = status["problems"]
            stranger = any(each["kind"] == "node name" for each in problems)
            return online and (stranger or not status["pools"])

        def find_late(machines: list[Machine]) -> list[Machine]:
            pending[:] = [m for m in machines if is_late(m)]
            self.start_coilds(pending)
            return pending

        try:
            _wait_all(find_late, machines, "coild", progress)
        except LabError as exc:
            raise _ended(pending[0], COILD, self.node(pending[0]).log) from exc

    def wait_sessions(self, progress: Progress = silent) -> None:
        """Until every BGP session is established."""

        def is_late(machine: Machine) -> bool:
            states = self.sessions(machine)
            return not states or any(state != "Established" for state in states.values())

        machines = list(self.plan.machines.values())
        _wait_all(lambda left: [m for m in left if is_late(m)], machines, "BGP", progress)

    def sessions(self, machine: Machine) -> dict[str, str]:
        """What BIRD says of each session, by the session's name; empty when it does not answer."""
        # NAME BGP TABLE STATE SINCE INFO; INFO is the state of BGP itself.
        lines = self._ask_bird(machine, "show protocols")
        rows = [words for line in lines if (words := line.split())[1:2] == ["BGP"]]
        return {words[0]: " ".join(words[5:]) for words in rows}

    def count_routes(self, machine: Machine) -> int:
        """How many networks BIRD knows a way to, of all families; 0 when it is not there."""
        lines = self._ask_bird(machine, "show route count")
        return sum(int(found[1]) for line in lines if (found := _COUNT.search(line)))

    def _ask_bird(self, machine: Machine, command: str) -> list[str]:
        try:
            return ask_bird(self.bird(machine).socket, command)[0]
        except SpeakerError:
            return []

    def ask(self, machine: Machine, path: str) -> Json | list[Json] | None:
        """What coild of a node answers; None when it does not, or not now."""
        try:
            return self.node(machine).ask(path, seconds=_ASK_SECONDS)  # type: ignore[no-any-return]
        except LabError:
            return None

    def leader(self) -> str:
        """The name of etcd's leader; empty while there is none, or nobody says so."""
        return self.ask_leader() or ""

    def ask_leader(self) -> str | None:
        """The name of etcd's leader; empty while all that run say that they don't lead.

        None while that is open: one that runs did not answer within a second.
        """
        silent = False
        for machine in self._running_members():
            done = self.member(machine).ctl(
                "endpoint", "status", "-w", "json", "--command-timeout=1s", check=False
            )
            rows = json.loads(done.stdout or "[]")
            silent |= not rows
            for row in rows:
                status = row["Status"]
                # A member that knows no leader leaves the key out.
                if status.get("leader") == status["header"]["member_id"]:
                    return machine.name
        return None if silent else ""

    def has_majority(self) -> bool:
        """Whether enough members of etcd run to have a leader, if they reach each other."""
        return len(self._running_members()) > self.plan.shape.etcd // 2

    def _running_members(self) -> list[Machine]:
        """Those of which etcd runs, and is not suspended."""
        hosts = {self.files.host(m): m for m in self.plan.of_kind(Kind.ETCD)}
        return [
            hosts[host]
            for host, found in programs_of(hosts).items()
            if any(p.name == ETCD and not p.suspended for p in found)
        ]


def _wait_all(
    find_late: Callable[[list[Machine]], list[Machine]],
    machines: Sequence[Machine],
    what: str,
    progress: Progress,
) -> None:
    """Poll until none is late; in the calling thread, so that a signal ends it."""
    left = list(machines)

    def all_done() -> bool:
        left[:] = find_late(left)
        progress(len(machines) - len(left))
        return not left

    def told() -> str:
        return f"{what} is up on {', '.join(machine.name for machine in left)}"

    until(all_done, told, _READY_SECONDS, pause=0.1)


def _environment() -> dict[str, str]:
    """This process's, less what is set for a coild of this machine."""
    return {k: v for k, v in os.environ.items() if not k.startswith("COIL_")}


def _write_birdc(bird: Bird) -> None:
    """Put a birdc there that knows its socket: there is no variable for it."""
    program = bird.config.parent / "bin" / "birdc"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec /usr/sbin/birdc -s {bird.socket} "$@"\n')
    program.chmod(0o755)


def _ended(machine: Machine, program: str, log: Path) -> LabError:
    text = log.read_text(errors="replace") if log.exists() else ""
    return LabError(f"{program} of {machine.name} does not run: {text[-2000:]}")
