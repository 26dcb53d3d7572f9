"""The messages of GoBGP's gRPC API that coil uses: of GoBGP 3 (``apipb``) and 4 (``api``).

Both number the fields we need alike; only the service's name and some enumerations differ. Routes
travel as BGP's own bytes (RFC 4271), which both take and give, so that neither's classes for
attributes are needed. Field numbers: GoBGP's gobgp.proto, versions 3.10 to 4.8.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int32": _FIELD.TYPE_INT32,
    "uint32": _FIELD.TYPE_UINT32,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
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
"""Fields by message: number, and type; a star says that there may be several."""


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


def _classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="coil/gobgp.proto", package="coil", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            word = kind.rstrip("*")
            field.label = _FIELD.LABEL_REPEATED if word != kind else _FIELD.LABEL_OPTIONAL
            if word in _TYPES:
                field.type = _TYPES[word]
            else:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".coil.{word}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(found[name]) for name in _MESSAGES}


CLASSES = _classes()
