"""coil-aggregates' settings: what can be set, what the defaults are, what is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from coil.domain.errors import ConfigError
from coil.domain.names import RackName
from coil.speakers.bird import DEFAULT_SOCKET
from coil.store.open import shown_url

DEFAULT_FILE = Path("/run/coil/aggregates.conf")
"""What was reached before a reboot says nothing about now."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything coil-aggregates is told. Raises ConfigError for what cannot be."""

    rack: RackName
    store: str
    file: Path = DEFAULT_FILE
    """What BIRD's configuration includes."""
    bird_socket: Path = DEFAULT_SOCKET
    period: float = 1.0
    """Seconds between two questions to BIRD: how long a lost node's blocks may stay covered."""
    settle: float = 10.0
    """Seconds an aggregate must have been usable before it is announced."""
    grace: float = 5.0
    """Seconds in which a new block's route may come before it counts as lost: from its claim to
    its announcement by the node it takes far less."""
    overlap: float = 1.0
    """Seconds for which the old and the new are both announced: more than a spine needs."""
    patience: float = 10.0
    """Seconds from the start after which what the store does not confirm is announced no more:
    far more than a store needs that is there, less than a lost node should be hidden for."""
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        if not self.store:
            raise ConfigError(
                "no store is named: use --store, as for coild (etcd://HOST:PORT/PREFIX)"
            )
        if self.period <= 0:
            raise ConfigError("period must be positive")
        if min(self.settle, self.grace, self.overlap, self.patience) < 0:
            raise ConfigError("settle, grace, overlap and patience must not be negative")
        if not self.file.is_absolute():
            raise ConfigError(f"{self.file} must be an absolute path: BIRD includes it by that")

    def shown(self) -> dict[str, object]:
        """As ``--print-config`` prints them: flags' names, plain values."""
        shown = asdict(self) | {
            "store": shown_url(self.store), "file": str(self.file),
            "bird_socket": str(self.bird_socket),
        }  # fmt: skip
        return {name.replace("_", "-"): value for name, value in shown.items()}
