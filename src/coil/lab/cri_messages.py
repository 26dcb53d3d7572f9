"""The part of CRI v1 (runtime.v1) that the lab speaks, as protobuf messages.

Field numbers are facts of the interface (k8s.io/cri-api, runtime/v1/api.proto). Debian 12 has no
client for it, and a table of the few fields in use needs no compiler and no generated code.
"""

from __future__ import annotations

from typing import Any

from coil.process.protobuf import TEXTS, Messages, message_classes

_MESSAGES: Messages = {
    "VersionRequest": {"version": (1, "string")},
    "VersionResponse": {"runtime_name": (2, "string"), "runtime_version": (3, "string")},
    "StatusRequest": {"verbose": (1, "bool")},
    "RuntimeCondition": {
        "type": (1, "string"), "status": (2, "bool"), "reason": (3, "string"),
        "message": (4, "string"),
    },
    "RuntimeStatus": {"conditions": (1, "RuntimeCondition*")},
    "StatusResponse": {"status": (1, "RuntimeStatus"), "info": (2, TEXTS)},
    "PodSandboxMetadata": {
        "name": (1, "string"), "uid": (2, "string"), "namespace": (3, "string"),
        "attempt": (4, "uint32"),
    },
    "PortMapping": {
        "protocol": (1, "int32"), "container_port": (2, "int32"), "host_port": (3, "int32"),
        "host_ip": (4, "string"),
    },
    "NamespaceOption": {"network": (1, "int32"), "pid": (2, "int32"), "ipc": (3, "int32")},
    "LinuxSandboxSecurityContext": {"namespace_options": (1, "NamespaceOption")},
    "LinuxPodSandboxConfig": {
        "cgroup_parent": (1, "string"),
        "security_context": (2, "LinuxSandboxSecurityContext"),
    },
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata"), "hostname": (2, "string"),
        "log_directory": (3, "string"), "port_mappings": (5, "PortMapping*"),
        "labels": (6, TEXTS), "annotations": (7, TEXTS),
        "linux": (8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig")},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "RemovePodSandboxResponse": {},
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, "string")},
    "PodIP": {"ip": (1, "string")},
    "PodSandboxNetworkStatus": {"ip": (1, "string"), "additional_ips": (2, "PodIP*")},
    "PodSandboxStatus": {
        "id": (1, "string"), "state": (3, "int32"), "network": (5, "PodSandboxNetworkStatus"),
    },
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus")},
    "ListPodSandboxRequest": {},
    "PodSandbox": {"id": (1, "string"), "state": (3, "int32")},
    "ListPodSandboxResponse": {"items": (1, "PodSandbox*")},
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "uint32")},
    "ImageSpec": {"image": (1, "string")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"), "image": (2, "ImageSpec"),
        "command": (3, "string*"), "log_path": (10, "string"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, "string"), "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": (1, "string")},
    "StartContainerRequest": {"container_id": (1, "string")},
    "StartContainerResponse": {},
    "ExecSyncRequest": {
        "container_id": (1, "string"), "cmd": (2, "string*"), "timeout": (3, "int64"),
    },
    "ExecSyncResponse": {"stdout": (1, "bytes"), "stderr": (2, "bytes"), "exit_code": (3, "int32")},
}  # fmt: skip


def message(name: str) -> Any:
    """The class of a message."""
    return _CLASSES[name]


_CLASSES = message_classes("runtime.v1", _MESSAGES)
