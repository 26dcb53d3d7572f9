"""One GET at a time, as the service account of this pod.

Where the server is and who we are: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from coil.domain.errors import ConfigError
from coil.kube.errors import KubeError, KubeForbidden, KubeNotFound, KubeUnavailable

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 3.0
"""Of one request."""


@dataclass(frozen=True, slots=True)
class KubeClient:
    """Belongs to a pod. Keeps no connection: what is asked is asked rarely."""

    host: str
    port: int
    account: Path
    """Folder with the account's token (renewed in place), namespace, and the server's authority."""

    @classmethod
    def in_cluster(
        cls, environment: Mapping[str, str] = os.environ, account: Path = _ACCOUNT
    ) -> KubeClient:
        """The client of the pod this process is in. Raises ConfigError outside of pods."""
        host = environment.get("KUBERNETES_SERVICE_HOST", "")
        port = environment.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal() or not (account / "token").is_file():
            raise ConfigError(
                "this is no pod of Kubernetes with a service account (KUBERNETES_SERVICE_HOST, "
                f"KUBERNETES_SERVICE_PORT and {account}/token)"
            )
        return cls(host, int(port), account)

    def namespace(self) -> str:
        """The pod's. Raises ConfigError."""
        return self._read("namespace").strip()

    async def get(self, path: str) -> object:
        """The object at ``path``, as JSON has it. Raises KubeError, ConfigError.

        A call that is cancelled ends in its thread, within seconds.
        """
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> object:
        token = self._read("token").strip()
        authority = self._read("ca.crt")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        try:
            context = ssl.create_default_context(cadata=authority)
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=_SECONDS, context=context
            )
            try:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                body = response.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as exc:
            raise KubeUnavailable(f"{self}: cannot be asked ({exc})") from exc
        return self._decoded(path, response.status, body)

    def _decoded(self, path: str, status: int, body: bytes) -> object:
        if status != HTTPStatus.OK:
            raise self._refused(path, status)
        try:
            found: object = json.loads(body)
        except ValueError as exc:
            raise KubeUnavailable(f"{self}: answers {path} with what is not JSON") from exc
        return found

    def _refused(self, path: str, status: int) -> KubeError:
        if status == HTTPStatus.NOT_FOUND:
            return KubeNotFound(f"{self}: has no {path}")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return KubeForbidden(
                f"{self}: the service account of this pod may not get {path}: give it a role that "
                "allows it"
            )
        return KubeUnavailable(f"{self}: answers {path} with status {status}")

    def _read(self, name: str) -> str:
        try:
            return (self.account / name).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read {self.account / name}: {exc}") from exc

    def __str__(self) -> str:
        return f"Kubernetes at {self.host}:{self.port}"
