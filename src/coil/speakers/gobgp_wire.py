"""The messages of GoBGP's gRPC API that coil uses: of GoBGP 3 (``apipb``) and 4 (``api``).

Both number the fields we need alike; only the service's name and some enumerations differ. Routes
travel as BGP's own bytes (RFC 4271), which both take and give, so that neither's classes for
attributes are needed. Field numbers: GoBGP's gobgp.proto, versions 3.10 to 4.8.
"""

from __future__ import annotations

from dataclasses import dataclass

from coil.process.protobuf import Messages, message_classes

_MESSAGES: Messages = {
    "Empty": {},
    "Family": {"afi": (1, "int32"), "safi": (2, "int32")},
    "Path": {
        "family": (9, "Family"),
        "filtered": (12, "bool"),
        "neighbor_ip": (15, "string"),
        "is_nexthop_invalid": (17, "bool"),
        "nlri_binary": (20, "bytes"),
        "pattrs_binary": (21, "bytes*"),
    },
    "AddPathRequest": {"table_type": (1, "int32"), "path": (3, "Path")},
    "DeletePathRequest": {
        "table_type": (1, "int32"),
        "family": (3, "Family"),
        "path": (4, "Path"),
    },
    "Lookup": {"prefix": (1, "string"), "type": (2, "int32")},
    "ListPathRequest": {
        "table_type": (1, "int32"),
        "name": (2, "string"),
        "family": (3, "Family"),
        "prefixes": (4, "Lookup*"),
        "enable_only_binary": (9, "bool"),
    },
    "Destination": {"paths": (2, "Path*")},
    "ListPathResponse": {"destination": (1, "Destination")},
    "PeerConf": {"neighbor_address": (4, "string")},
    "PeerState": {"session_state": (13, "int32")},
    "Peer": {"conf": (2, "PeerConf"), "state": (5, "PeerState")},
    "ListPeerResponse": {"peer": (1, "Peer")},
    "Filter": {"type": (1, "int32"), "init": (2, "bool")},
    "Table": {"filters": (1, "Filter*")},
    "WatchEventRequest": {"table": (2, "Table")},
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between two versions of the API."""

    service: str
    table_global: int
    table_adj_out: int
    exact: int
    best: int

    def method(self, name: str) -> str:
        """The path of a method, as gRPC names it."""
        return f"/{self.service}/{name}"


GOBGP_4 = Dialect("api.GoBgpService", table_global=1, table_adj_out=4, exact=1, best=1)
GOBGP_3 = Dialect("apipb.GobgpApi", table_global=0, table_adj_out=3, exact=0, best=0)
ESTABLISHED = 6
"""The session state that both call so."""


CLASSES = message_classes("coil.gobgp", _MESSAGES)
