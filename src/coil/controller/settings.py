"""coil-controller's settings: what can be set, what the defaults are, what is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coil.domain.errors import ConfigError
from coil.program import parse_endpoint
from coil.store.open import DEFAULT_STORE, shown_url

DEFAULT_GRACE = 300.0
"""Seconds: more than twice the default cool-down, and more than a server takes to boot."""
_MIN_GRACE = 60.0
_MIN_LEASE = 2.0
"""Seconds: etcd gives no shorter one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything coil-controller is told. Raises ConfigError for what cannot be."""

    store: str = DEFAULT_STORE
    grace: float = DEFAULT_GRACE
    """Seconds a node must be silent before its blocks are taken."""
    short_grace: bool = False
    most_missing: float = 10.0
    """Percent of all nodes."""
    period: float = 30.0
    """Seconds between two passes."""
    lease: float = 15.0
    """Seconds after which another replica leads when the leader says nothing."""
    metrics_addr: str = ""
    """HOST:PORT for /metrics, /status, /health and /ready; empty: none."""
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        if self.grace < _MIN_GRACE and not self.short_grace:
            raise ConfigError(
                f"grace of {self.grace:g} s is less than {_MIN_GRACE:g} s: a node that restarts "
                "would lose its blocks; in a lab use --short-grace with it"
            )
        if self.grace <= 0:
            raise ConfigError("grace must be positive")
        if not 0 <= self.most_missing <= 100:
            raise ConfigError("most-missing must be 0 to 100 percent")
        if self.period <= 0:
            raise ConfigError("period must be positive")
        if self.lease < _MIN_LEASE:
            raise ConfigError(f"lease must be at least {_MIN_LEASE:g} seconds")
        if self.metrics_addr:
            self.metrics_endpoint()

    def metrics_endpoint(self) -> tuple[str, int]:
        """Host and port of ``metrics_addr``. Raises ConfigError."""
        return parse_endpoint("metrics-addr", self.metrics_addr)

    def shown(self) -> dict[str, object]:
        """As ``--print-config`` prints them: flags' names, plain values."""
        fields = asdict(self) | {"store": shown_url(self.store)}
        return {name.replace("_", "-"): value for name, value in fields.items()}
