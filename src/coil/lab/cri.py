"""A client of a container runtime's CRI: what the kubelet would ask of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from coil.lab.cri_messages import message
from coil.lab.errors import LabError

_SERVICE = "/runtime.v1.RuntimeService/"
_SECONDS = 60.0
# A runtime that is starting is asked again and again: gRPC's own pauses start at a second.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
_NETWORK_NODE = 2  # NamespaceMode NODE: the host's network
READY = 0  # PodSandboxState SANDBOX_READY


@dataclass(frozen=True, slots=True)
class Pod:
    """A sandbox that runs."""

    id: str
    name: str
    addresses: tuple[str, ...]
    config: Any = field(repr=False, compare=False)


class Cri:
    """Talks to the runtime behind a Unix socket; may be used from several threads."""

    def __init__(self, socket: Path, *, cgroup_parent: str = "") -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=_OPTIONS)
        self._cgroup_parent = cgroup_parent
        """The control group under which sandboxes are made; empty: the runtime's own choice."""

    def close(self) -> None:
        """Close the connection; no call may follow."""
        self._channel.close()

    def call(self, method: str, **fields: Any) -> Any:
        """Call a method with the fields of its request. Raises LabError with the runtime's word."""
        request = message(f"{method}Request")(**fields)
        remote = self._channel.unary_unary(
            _SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=message(f"{method}Response").FromString,
        )
        try:
            return remote(request, timeout=_SECONDS)
        except grpc.RpcError as exc:
            raise LabError(f"{method}: {exc.details()}") from exc

    def network_ready(self) -> bool:
        """Whether the runtime says that pods can have a network."""
        conditions = self.call("Status").status.conditions
        return any(c.type == "NetworkReady" and c.status for c in conditions)

    def networks(self) -> list[Any]:
        """The CNI configurations in force, loopback's among them, as they stand in their files."""
        info = self.call("Status", verbose=True).info
        found = json.loads(info["cniconfig"])["Networks"] or []
        return [json.loads(network["Config"]["Source"]) for network in found]

    def is_up(self) -> bool:
        """Whether the runtime answers."""
        try:
            self.call("Version")
        except LabError:
            return False
        return True

    def run_pod(
        self,
        name: str,
        namespace: str = "default",
        *,
        host_network: bool = False,
        ports: Mapping[int, int] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """Run a sandbox. ``ports``: host port to container port."""
        config = message("PodSandboxConfig")(
            metadata={"name": name, "namespace": namespace, "uid": str(uuid.uuid4())},
            hostname="" if host_network else name,
            port_mappings=[
                {"host_port": host, "container_port": inside}
                for host, inside in (ports or {}).items()
            ],
            annotations=dict(annotations or {}),
            linux={
                "cgroup_parent": self._cgroup_parent,
                "security_context": {"namespace_options": {}},
            },
        )
        if host_network:
            config.linux.security_context.namespace_options.network = _NETWORK_NODE
        pod_id = self.call("RunPodSandbox", config=config).pod_sandbox_id
        return Pod(pod_id, name, self.addresses(pod_id), config)

    def addresses(self, pod_id: str) -> tuple[str, ...]:
        """The addresses the runtime has for a sandbox, the main one first."""
        network = self.call("PodSandboxStatus", pod_sandbox_id=pod_id).status.network
        return tuple(filter(None, (network.ip, *(entry.ip for entry in network.additional_ips))))

    def run_container(self, pod: Pod, image: str, *command: str) -> str:
        """Create and start a container in a sandbox; returns its id."""
        config = {
            "metadata": {"name": "main"},
            "image": {"image": image},
            "command": list(command),
        }
        created = self.call(
            "CreateContainer", pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config
        )
        self.call("StartContainer", container_id=created.container_id)
        return str(created.container_id)

    def exec(self, container_id: str, *command: str, seconds: int = 20) -> tuple[int, str]:
        """Run a command in a container; returns its exit status and output."""
        done = self.call("ExecSync", container_id=container_id, cmd=command, timeout=seconds)
        return done.exit_code, (done.stdout + done.stderr).decode(errors="replace")

    def stop_pod(self, pod_id: str) -> None:
        """Stop a sandbox and what runs in it: the runtime calls DEL."""
        self.call("StopPodSandbox", pod_sandbox_id=pod_id)

    def remove_pod(self, pod_id: str) -> None:
        """Stop, then forget a sandbox."""
        self.stop_pod(pod_id)
        self.call("RemovePodSandbox", pod_sandbox_id=pod_id)

    def pod_ids(self) -> list[str]:
        """All sandboxes, running or not."""
        return [item.id for item in self.call("ListPodSandbox").items]


def conflist(name: str, plugins: list[dict[str, object]], version: str = "1.0.0") -> str:
    """A network configuration list."""
    return json.dumps({"cniVersion": version, "name": name, "plugins": plugins}, indent=2)
