"""Where a service of the cluster is: the addresses in its Endpoints object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

from coil.domain.errors import ConfigError
from coil.kube.client import KubeClient
from coil.kube.errors import KubeNotFound

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT_NAMES = ("client", "etcd-client", "etcd")
"""Of several ports, the one a client of etcd wants."""


@dataclass(frozen=True, slots=True)
class ServiceName:
    """Which Endpoints object, and which of its ports."""

    name: str
    namespace: str = ""
    """Empty: the pod's."""
    port: int = 0
    """0: the only one, or the one that is called client, etcd-client or etcd."""

    def __str__(self) -> str:
        return f"@{self.name}{'.' if self.namespace else ''}{self.namespace}"


def parse_service(text: str) -> ServiceName:
    """Read ``NAME``, ``NAME.NAMESPACE``, either with ``:PORT``. Raises ConfigError."""
    place, colon, port = text.partition(":")
    name, dot, namespace = place.partition(".")
    if not _LABEL.fullmatch(name) or (dot and not _LABEL.fullmatch(namespace)):
        raise ConfigError(f"@{place} is not the name of a Kubernetes service, @NAME.NAMESPACE")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ConfigError(f"@{text} has no port from 1 to 65535")
    return ServiceName(name, namespace, int(port or 0))


async def find_endpoints(client: KubeClient, service: ServiceName) -> tuple[str, ...]:
    """HOST:PORT of each ready address; at least one. Raises KubeError, ConfigError."""
    namespace = service.namespace or client.namespace()
    path = f"/api/v1/namespaces/{namespace}/endpoints/{service.name}"
    found = decode_endpoints(await client.get(path), service)
    if not found:
        raise KubeNotFound(f"{client}: service {service} has no endpoint that is ready")
    return found


def decode_endpoints(document: object, service: ServiceName) -> tuple[str, ...]:
    """HOST:PORT of each ready address in an Endpoints object, in its order. Raises ConfigError."""
    match document:
        case {"kind": "Endpoints"}:
            subsets = cast("dict[str, object]", document).get("subsets") or []
        case _:
            raise _foreign(service)
    found: list[str] = []
    for subset in _objects(subsets):
        port = service.port or _choose_port(subset, service)
        found += [f"{_host(each, service)}:{port}" for each in _objects(subset.get("addresses"))]
    return tuple(dict.fromkeys(found))


def _host(address: dict[str, object], service: ServiceName) -> str:
    try:
        host = ip_address(str(address.get("ip")))
    except ValueError as exc:
        raise _foreign(service) from exc
    return f"[{host}]" if host.version == 6 else str(host)


def _foreign(service: ServiceName) -> ConfigError:
    return ConfigError(f"service {service}: what Kubernetes answers is no Endpoints object")


def _choose_port(subset: dict[str, object], service: ServiceName) -> object:
    ports = list(_objects(subset.get("ports")))
    named = [port for port in ports if port.get("name") in _PORT_NAMES]
    if len(ports) == 1 or len(named) == 1:
        return (named or ports)[0].get("port")
    shown = ", ".join(f"{port.get('name', '')} {port.get('port')}".strip() for port in ports)
    raise ConfigError(
        f"service {service} has {len(ports)} ports ({shown or 'none'}): name one, @NAME:PORT"
    )


def _objects(found: object) -> Iterator[dict[str, object]]:
    for each in found if isinstance(found, list) else []:
        if isinstance(each, dict):
            yield each
