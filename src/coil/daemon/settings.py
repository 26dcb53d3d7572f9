"""coild's settings: what can be set, what the defaults are, what is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from coil.daemon.collect import GcMode
from coil.domain.errors import ConfigError
from coil.domain.names import NodeName, RackName
from coil.kube.labels import parse_label_key
from coil.nodenet.plan import Tables
from coil.program import parse_endpoint
from coil.speakers.pulse import Sockets
from coil.store.open import DEFAULT_STORE, shown_url

DEFAULT_SOCKET = Path("/run/coil/coild.sock")
DEFAULT_STATE_DIR = Path("/run/coil")
_MIN_MTU, _MAX_MTU = 68, 65_535
_MIN_LEASE = 5.0
"""Seconds: an election of etcd must not cost a node its lease."""
_MAX_SOCKET_PATH = 107
"""Bytes of sockaddr_un.sun_path less the NUL (unix(7))."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything coild is told. Raises ConfigError for what cannot be."""

    node_name: NodeName
    rack: RackName | None = None
    """Blocks are taken from its ranges."""
    rack_label: str = ""
    """Key of the label of this node's Node object in Kubernetes that has the rack's name."""
    store: str = DEFAULT_STORE
    socket: Path = DEFAULT_SOCKET
    state_dir: Path = DEFAULT_STATE_DIR
    mtu: int = 0
    """Bytes; 0: that of the uplink."""
    tables: Tables = field(default_factory=Tables)
    sockets: Sockets = field(default_factory=Sockets)
    calico_names: bool = False
    gc: GcMode = GcMode.ON
    metrics_addr: str = ""
    """HOST:PORT for /metrics over TCP; empty: none."""
    period: float = 30.0
    """Seconds between two passes of repair, of sync with the store, and of housekeeping."""
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        if self.mtu and not _MIN_MTU <= self.mtu <= _MAX_MTU:
            raise ConfigError(f"mtu must be 0 (detect) or {_MIN_MTU} to {_MAX_MTU}")
        self._check_paths()
        if self.tables.pod_table == self.tables.export_table:
            raise ConfigError("pod-table and export-table must differ")
        if self.period <= 0:
            raise ConfigError("period must be positive")
        if self.metrics_addr:
            self.metrics_endpoint()
        if self.rack_label:
            parse_label_key(self.rack_label)
        if self.sockets.gobgp and not self.sockets.gobgp.startswith("unix:"):
            parse_endpoint("gobgp", self.sockets.gobgp)

    def _check_paths(self) -> None:
        sockets = {
            "socket": self.socket,
            "bird-socket": self.sockets.bird,
            "frr-socket": self.sockets.frr,
        }
        for name, path in {**sockets, "state-dir": self.state_dir}.items():
            if not path.is_absolute():
                raise ConfigError(f"{name} must be an absolute path, not {str(path)!r}")
        for name, path in sockets.items():
            if len(str(path).encode()) > _MAX_SOCKET_PATH:
                raise ConfigError(f"{name} path is longer than {_MAX_SOCKET_PATH} bytes")

    @property
    def lease(self) -> float:
        """Seconds after which a node that says nothing is taken for dead, but not yet for gone."""
        return max(_MIN_LEASE, 3 * self.period)

    @property
    def patience(self) -> float:
        """Seconds that a node may be out of action, or of touch, and not be taken for dead.

        Half the lease: it was last renewed up to a third of it before that began.
        """
        return self.lease / 2

    def metrics_endpoint(self) -> tuple[str, int]:
        """Host and port of ``metrics_addr``. Raises ConfigError."""
        return parse_endpoint("metrics-addr", self.metrics_addr)

    def shown(self) -> dict[str, object]:
        """As ``--print-config`` prints them: flags' names, plain values."""
        fields = asdict(self)
        tables, sockets = fields.pop("tables"), fields.pop("sockets")
        fields |= tables | {
            "bird_socket": str(sockets["bird"]),
            "frr_socket": str(sockets["frr"]),
            "gobgp": sockets["gobgp"],
            "store": shown_url(self.store),
            "socket": str(self.socket),
            "state_dir": str(self.state_dir),
            "gc": self.gc.value,
        }
        return {name.replace("_", "-"): value for name, value in fields.items()}
