"""The part of CRI v1 (runtime.v1) that the lab speaks, as protobuf messages.

Field numbers are facts of the interface (k8s.io/cri-api, runtime/v1/api.proto). Debian 12 has no
client for it, and a table of the few fields in use needs no compiler and no generated code.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "runtime.v1"
_STRINGS = "map<string,string>"

# message: {field: (number, type)}; a type in brackets is repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "VersionRequest": {"version": (1, "string")},
    "VersionResponse": {"runtime_name": (2, "string"), "runtime_version": (3, "string")},
    "StatusRequest": {"verbose": (1, "bool")},
    "RuntimeCondition": {
        "type": (1, "string"), "status": (2, "bool"), "reason": (3, "string"),
        "message": (4, "string"),
    },
    "RuntimeStatus": {"conditions": (1, "[RuntimeCondition]")},
    "StatusResponse": {"status": (1, "RuntimeStatus"), "info": (2, _STRINGS)},
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
        "log_directory": (3, "string"), "port_mappings": (5, "[PortMapping]"),
        "labels": (6, _STRINGS), "annotations": (7, _STRINGS),
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
    "PodSandboxNetworkStatus": {"ip": (1, "string"), "additional_ips": (2, "[PodIP]")},
    "PodSandboxStatus": {
        "id": (1, "string"), "state": (3, "int32"), "network": (5, "PodSandboxNetworkStatus"),
    },
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus")},
    "ListPodSandboxRequest": {},
    "PodSandbox": {"id": (1, "string"), "state": (3, "int32")},
    "ListPodSandboxResponse": {"items": (1, "[PodSandbox]")},
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "uint32")},
    "ImageSpec": {"image": (1, "string")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"), "image": (2, "ImageSpec"),
        "command": (3, "[string]"), "log_path": (10, "string"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, "string"), "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": (1, "string")},
    "StartContainerRequest": {"container_id": (1, "string")},
    "StartContainerResponse": {},
    "ExecSyncRequest": {
        "container_id": (1, "string"), "cmd": (2, "[string]"), "timeout": (3, "int64"),
    },
    "ExecSyncResponse": {"stdout": (1, "bytes"), "stderr": (2, "bytes"), "exit_code": (3, "int32")},
}  # fmt: skip

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
}


def message(name: str) -> Any:
    """The class of a message."""
    return _CLASSES[f"{_PACKAGE}.{name}"]


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(described, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return dict(message_factory.GetMessageClassesForFiles(["cri.proto"], pool))


def _add_field(described: Any, name: str, number: int, kind: str) -> None:
    field = described.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind == _STRINGS:
        entry = described.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        for key, place in (("key", 1), ("value", 2)):
            _add_field(entry, key, place, "string")
        field.label = _Field.LABEL_REPEATED
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{described.name}.{entry.name}"
        return
    if kind.startswith("["):
        field.label = _Field.LABEL_REPEATED
        kind = kind[1:-1]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


_CLASSES = _build()
