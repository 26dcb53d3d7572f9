"""coil-gobgp's settings: what can be set, what the defaults are, what is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coil.domain.errors import ConfigError
from coil.routing.gobgp import API
from coil.routing.model import EXPORT_PROTOCOL, EXPORT_TABLE

RTPROT_BGP = 186
"""linux/rtnetlink.h; ``ip route`` calls it bgp."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything coil-gobgp is told. Raises ConfigError for what cannot be."""

    gobgp: str = API
    export_table: int = EXPORT_TABLE
    protocol: int = EXPORT_PROTOCOL
    route_protocol: int = RTPROT_BGP
    """Of the routes it makes in the main table; nobody else's there may have it."""
    period: float = 30.0
    """Seconds between two passes when nothing happens."""
    settle: float = 10.0
    """Seconds a gobgpd has to hear its neighbours before a route that it lacks is removed."""
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise ConfigError("period must be positive")
        if self.settle < 0:
            raise ConfigError("settle must not be negative")
        if self.route_protocol == self.protocol:
            raise ConfigError(
                f"route-protocol {self.route_protocol} is that of coild's block routes; the routes "
                "learnt from the fabric need another"
            )

    def shown(self) -> dict[str, object]:
        """As ``--print-config`` prints them: flags' names, plain values."""
        return {name.replace("_", "-"): value for name, value in asdict(self).items()}
