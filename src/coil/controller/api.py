"""What probes, Prometheus and operators ask of coil-controller over TCP."""

from __future__ import annotations

from collections.abc import Mapping

from coil import __version__
from coil.controller.leader import Leadership
from coil.controller.metrics import Metrics
from coil.controller.passes import Passes
from coil.process.http import METRICS_TYPE, Endpoint, HttpRequest, HttpResponse, json_response
from coil.process.problems import Problems


class Api:
    """Handlers; each returns a response and raises only bugs."""

    def __init__(
        self, *, leadership: Leadership, passes: Passes, problems: Problems, metrics: Metrics
    ) -> None:
        self._leadership = leadership
        self._passes = passes
        self._problems = problems
        self._metrics = metrics

    def endpoints(self) -> Mapping[tuple[str, str], Endpoint]:
        """For the router."""
        return {
            ("GET", "/status"): Endpoint(self._status),
            ("GET", "/health"): Endpoint(self._health),
            ("GET", "/ready"): Endpoint(self._ready),
            ("GET", "/metrics"): Endpoint(self._show_metrics),
        }

    async def _status(self, _request: HttpRequest) -> HttpResponse:
        return json_response(
            200,
            {
                "version": __version__,
                "leading": self._leadership.is_leading,
                "holder": self._leadership.holder,
                "passes": self._passes.count,
                "overdue": sorted(self._passes.seen.overdue) if self._passes.seen else [],
                "problems": self._problems.list(),
            },
        )

    async def _health(self, _request: HttpRequest) -> HttpResponse:
        return json_response(200, {"healthy": True})

    async def _ready(self, _request: HttpRequest) -> HttpResponse:
        is_ready = self._passes.is_ready
        return json_response(200 if is_ready else 503, {"ready": is_ready})

    async def _show_metrics(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, self._metrics.text(), METRICS_TYPE)
