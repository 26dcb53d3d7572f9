"""Endpoints of etcd by the name of a service of the Kubernetes cluster this program runs in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from coil.domain.errors import ConfigError
from coil.kube.client import KubeClient
from coil.kube.endpoints import ServiceName, find_endpoints
from coil.kube.errors import KubeError, KubeForbidden
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd.address import EtcdAddress

FindEndpoints = Callable[[], Awaitable[tuple[str, ...]]]
"""HOST:PORT of each member, as things are now. Raises StoreError, ConfigError."""


def look_up(address: EtcdAddress, service: ServiceName) -> tuple[EtcdAddress, FindEndpoints]:
    """The address with the service's whole name, and what finds it. Raises ConfigError."""
    try:
        client = KubeClient.in_cluster()
    except ConfigError as exc:
        raise ConfigError(f"{service} can be looked up in a pod only: {exc.message}") from exc
    whole = replace(service, namespace=service.namespace or client.namespace())

    async def find() -> tuple[str, ...]:
        try:
            return await find_endpoints(client, whole)
        except KubeForbidden as exc:
            # A role may be given later: no reason for a daemon to end for good.
            raise StoreError(f"etcd of {whole} cannot be looked up: {exc.message}") from exc
        except KubeError as exc:
            raise StoreUnavailable(f"etcd of {whole} cannot be looked up: {exc.message}") from exc

    return replace(address, service=whole), find
