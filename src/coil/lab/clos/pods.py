"""Pods of a lab: namespaces attached through the built plugin, as a container runtime does it."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from coil.domain.errors import RequestError
from coil.lab.clos.fabric import delete, exists
from coil.lab.clos.files import Files, PodRecord
from coil.lab.clos.plan import Machine, UnknownName, is_pod_name
from coil.lab.clos.programs import end_all
from coil.lab.errors import LabError
from coil.lab.host import Host, run
from coil.lab.node import PLUGIN
from coil.routing.model import Address

_NAMESPACE = "default"
_IFNAME = "eth0"
_SECONDS = 60.0
"""The plugin gives up by itself long before."""
_UNDO_SECONDS = 2
"""Where coild does not answer, nothing may wait for it twice: it finds by itself what is gone."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that has its addresses."""

    name: str
    node: str
    host: Host
    container_id: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Pods:
    """Adds and deletes pods. The lab is their runtime: it keeps what it asked and was told."""

    files: Files

    def add(self, name: str, node: Machine) -> Pod:
        """Start a pod on a node. Idempotent, also after a kill in between.

        Raises LabError with the plugin's own words when it is refused. Nothing is left then, nor
        when it is interrupted.
        """
        if not is_pod_name(name):
            raise RequestError(
                f"pod name {name[:80]!r} must be 1 to 63 lower-case letters, digits or '-', "
                "beginning and ending with a letter or digit"
            )
        with self.files.pod_alone(name):
            return self._pod(self._make(name, node))

    def delete(self, name: str) -> bool:
        """End a pod and give its addresses back. Returns False when there was none. Idempotent."""
        if self.files.find_pod(name) is None:
            return False
        with self.files.pod_alone(name):
            record = self.files.find_pod(name)
            if record is not None:
                self._end(record)
        return record is not None

    def get(self, name: str) -> Pod:
        """A pod by name. Raises UnknownName."""
        record = self.files.find_pod(name)
        if record is None or not record.addresses:
            known = ", ".join(pod.name for pod in self.every()) or "none; add one with pod add"
            raise UnknownName(f"the lab has no pod {name!r}; it has {known}")
        return self._pod(record)

    def every(self) -> list[Pod]:
        """All pods that have their addresses, by name."""
        return [self._pod(record) for record in self.files.pods() if record.addresses]

    def lose(self, node: Machine) -> None:
        """Take the pods of a node away without a word to anybody; it has lost its power.

        A pod that is being made there just now is waited for: its plugin died with the node.
        """
        for name in [record.name for record in self.files.pods() if record.node == node.name]:
            with self.files.pod_alone(name):
                record = self.files.find_pod(name)
                if record and record.node == node.name:
                    self._forget(record)

    def _forget(self, record: PodRecord) -> None:
        host = self.files.pod_host(record.name)
        end_all([host])
        delete([host])
        self.files.forget_pod(record.name)

    def _make(self, name: str, node: Machine) -> PodRecord:
        self._check_on(node)
        record = self.files.find_pod(name)
        if record and record.node != node.name:
            if record.addresses:
                raise LabError(f"pod {name} is on node {record.node}; delete it there first")
            self._end(record)  # whoever began it was killed
            record = None
        record = record or PodRecord(name, node.name, secrets.token_hex(16))
        return record if record.addresses else self._attach(record)

    def _check_on(self, node: Machine) -> None:
        if not exists(self.files.host(node)):
            raise LabError(
                f"node {node.name} is off; heal it first: coil-lab heal node {node.name}"
            )

    def _attach(self, record: PodRecord) -> PodRecord:
        host = self.files.pod_host(record.name)
        with ExitStack() as undo:
            undo.callback(self._forget, record)
            self.files.write_pod(record)
            if not exists(host):
                delete([host])
                run(["ip", "netns", "add", host.name])
            host.run("ip", "link", "set", "lo", "up")
            # What the specification asks of a runtime after an ADD that failed.
            undo.callback(self._call, "DEL", record, check=False, timeout=_UNDO_SECONDS)
            result = self._call("ADD", record)
            addresses = tuple(entry["address"].partition("/")[0] for entry in result["ips"])
            record = replace(record, addresses=addresses)
            self.files.write_pod(record)
            undo.pop_all()
        return record

    def _end(self, record: PodRecord) -> None:
        if exists(self.files.host(record.node)):
            end_all([self.files.pod_host(record.name)])
            self._call("DEL", record)
        self._forget(record)

    def _call(
        self, command: str, record: PodRecord, *, check: bool = True, timeout: int = 30
    ) -> dict[str, Any]:
        """Execute the plugin on the pod's node. Raises LabError with what it said.

        ``timeout``: seconds the plugin may wait for coild.
        """
        network = json.loads(self.files.conflist(record.node).read_text(encoding="utf-8"))
        (netconf,) = network.pop("plugins")
        variables = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": record.container_id,
            "CNI_NETNS": str(self.files.pod_host(record.name).path),
            "CNI_IFNAME": _IFNAME,
            "CNI_PATH": str(PLUGIN.parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={_NAMESPACE};"
            f"K8S_POD_NAME={record.name};K8S_POD_INFRA_CONTAINER_ID={record.container_id}",
        }
        # It goes with who started it, even by kill -9: nothing is attached behind anybody's back.
        done = self.files.host(record.node).run(
            *("setpriv", "--pdeathsig", "KILL", PLUGIN),
            check=False,
            seconds=_SECONDS,
            env=variables,
            input=json.dumps({**network, **netconf, "timeout": timeout}),
        )
        answer = json.loads(done.stdout) if done.stdout.strip() else {}
        if check and done.returncode:
            said = answer.get("msg") or done.stderr.strip() or f"exit status {done.returncode}"
            raise LabError(f"{command} of pod {record.name} on {record.node} failed: {said}")
        return answer

    def _pod(self, record: PodRecord) -> Pod:
        addresses = tuple(map(ip_address, record.addresses))
        host = self.files.pod_host(record.name)
        return Pod(record.name, record.node, host, record.container_id, addresses)
