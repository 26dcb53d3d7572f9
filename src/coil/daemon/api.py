"""The endpoints of coild beside CNI: what coilctl, probes and Prometheus ask. See docs/api.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from coil.daemon.attach import Attacher
from coil.daemon.inventory import Address, Inventory
from coil.daemon.metrics import Metrics
from coil.daemon.report import Reporter
from coil.domain.attachment import Attachment
from coil.domain.errors import (
    AddressNotFound,
    AttachmentNotFound,
    CoilError,
    ConfigError,
    RequestError,
)
from coil.process.http import METRICS_TYPE, Endpoint, HttpRequest, HttpResponse, json_response


class Api:
    """Handlers; each returns a response and raises only bugs."""

    def __init__(
        self, *, reporter: Reporter, attacher: Attacher, inventory: Inventory, metrics: Metrics
    ) -> None:
        self._reporter = reporter
        self._attacher = attacher
        self._inventory = inventory
        self._metrics = metrics
        self.is_ready = False
        """Set once the first reconciliation is through."""

    def endpoints(self) -> Mapping[tuple[str, str], Endpoint]:
        """For the router."""
        return {
            ("GET", "/status"): Endpoint(self._status),
            ("GET", "/health"): Endpoint(self._health),
            ("GET", "/ready"): Endpoint(self._ready),
            ("GET", "/metrics"): Endpoint(self._show_metrics),
            ("GET", "/blocks"): Endpoint(self._blocks),
            ("GET", "/addresses"): Endpoint(self._addresses),
            ("GET", "/address"): Endpoint(self._address),
            ("POST", "/address/free"): Endpoint(self._free),
            ("GET", "/explain"): Endpoint(self._explain),
        }

    async def _status(self, _request: HttpRequest) -> HttpResponse:
        return json_response(200, {**self._reporter.status(), "ready": self.is_ready})

    async def _health(self, _request: HttpRequest) -> HttpResponse:
        return json_response(200, {"healthy": True})

    async def _ready(self, _request: HttpRequest) -> HttpResponse:
        return json_response(200 if self.is_ready else 503, {"ready": self.is_ready})

    async def _show_metrics(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, self._metrics.text(), METRICS_TYPE)

    async def _blocks(self, _request: HttpRequest) -> HttpResponse:
        return json_response(200, self._reporter.blocks())

    async def _addresses(self, _request: HttpRequest) -> HttpResponse:
        return json_response(200, self._reporter.addresses())

    async def _address(self, request: HttpRequest) -> HttpResponse:
        try:
            return json_response(200, self._reporter.address(_address_of(request)))
        except CoilError as exc:
            return refusal(exc)

    async def _free(self, request: HttpRequest) -> HttpResponse:
        """Detach whoever holds the address: an operator's word, who was asked if sure."""
        try:
            address = _address_of(request)
            holder = self._inventory.find_holder(address)
            if holder is None:
                raise AddressNotFound(f"no attachment of this node holds {address}")
            await self._attacher.delete(holder.key)
            return json_response(200, self._reporter.address(address))
        except CoilError as exc:
            return refusal(exc)

    async def _explain(self, request: HttpRequest) -> HttpResponse:
        try:
            subject = request.query.get("subject", "")
            found = [
                self._reporter.explain(attachment, await self._attacher.faults(attachment.key))
                for attachment in self._find(subject)
            ]
            first, *others = found or [self._reporter.explain_unheld(_parse_address(subject))]
            return json_response(200, {**first, "other_interfaces": others})
        except CoilError as exc:
            return refusal(exc)

    def _find(self, subject: str) -> list[Attachment]:
        """Of one container, by address, its id (or the beginning) or namespace/pod.

        None for an address that nobody holds. Raises AttachmentNotFound, RequestError.
        """
        address = _find_address(subject)
        fits: tuple[Callable[[Attachment], bool], ...] = (
            lambda a: a.key.container_id == subject,
            lambda a: address in a.addresses or subject == str(a.pod),
            lambda a: a.key.container_id.startswith(subject),
        )
        known = self._inventory.attachments.values() if subject else ()
        each = ([attachment for attachment in known if fit(attachment)] for fit in fits)
        matches = next(filter(None, each), [])
        if not matches and address is None:
            raise AttachmentNotFound(
                f"nothing on this node is called {subject!r}; give an address, a container id or "
                "NAMESPACE/POD (coilctl address list shows them)"
            )
        containers = {a.key.container_id for a in matches}
        if len(containers) > 1:
            raise RequestError(
                f"{subject!r} fits {len(containers)} containers; give more of the id"
            )
        return sorted(matches, key=lambda a: a.key.ifname)


def _address_of(request: HttpRequest) -> Address:
    return _parse_address(request.query.get("address", ""))


def _parse_address(text: str) -> Address:
    found = _find_address(text)
    if found is None:
        raise RequestError(f"{text!r} is not an IP address")
    return found


def _find_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def refusal(exc: CoilError) -> HttpResponse:
    """The answer to a request that could not be served: which status each error has."""
    status = next((code for kind, code in STATUS.items() if isinstance(exc, kind)), 500)
    return json_response(503 if exc.transient else status, {"error": exc.message})


STATUS: dict[type[CoilError], int] = {
    AddressNotFound: 404,
    AttachmentNotFound: 404,
    RequestError: 400,
    ConfigError: 500,
}
"""The one table of errors to HTTP status; transient ones are 503, all others 500."""
