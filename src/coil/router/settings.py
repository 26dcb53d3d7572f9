"""coil-router's settings: what can be set, what the defaults are, what is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coil.domain.errors import ConfigError
from coil.domain.names import NodeName
from coil.store.open import shown_url

DEFAULT_TABLE = 117
DEFAULT_RULE_PRIORITY = 2001
"""Behind coild's rule (2000): what this node has itself comes first."""
DEFAULT_PROTOCOL = 31
_SYSTEM_TABLES = range(253, 256)
"""default, main, local of rtnetlink(7)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything coil-router is told. Raises ConfigError for what cannot be."""

    node_name: NodeName
    store: str
    router_table: int = DEFAULT_TABLE
    router_rule_priority: int = DEFAULT_RULE_PRIORITY
    router_protocol: int = DEFAULT_PROTOCOL
    period: float = 30.0
    """Seconds between two passes over the kernel's routes when nothing happens."""
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        if self.router_table in _SYSTEM_TABLES:
            raise ConfigError("router-table must not be one of the system's (253 to 255)")
        if self.period <= 0:
            raise ConfigError("period must be positive")

    def shown(self) -> dict[str, object]:
        """As ``--print-config`` prints them: flags' names, plain values."""
        shown = asdict(self) | {"store": shown_url(self.store)}
        return {name.replace("_", "-"): value for name, value in shown.items()}
