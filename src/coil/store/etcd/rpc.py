"""The messages of etcd's API that coil uses: 29 of some 120, with the fields it writes or reads.

Field numbers: https://github.com/etcd-io/etcd/blob/main/api/etcdserverpb/rpc.proto and
api/mvccpb/kv.proto; the same since etcd 3.0, but for Compare's ranges (3.3). Generated classes
would bring all of them, and grpcio, which they import, 8 MB more (docs/adr/0019).
"""

from __future__ import annotations

from enum import IntEnum

from coil.process.protobuf import Messages, message_classes

_HEADER = (1, "ResponseHeader")
_MESSAGES: Messages = {
    "ResponseHeader": {"revision": (3, "int64")},
    "KeyValue": {
        "key": (1, "bytes"),
        "create_revision": (2, "int64"),
        "mod_revision": (3, "int64"),
        "version": (4, "int64"),
        "value": (5, "bytes"),
        "lease": (6, "int64"),
    },
    "Event": {"type": (1, "enum"), "kv": (2, "KeyValue")},
    "RangeRequest": {
        "key": (1, "bytes"),
        "range_end": (2, "bytes"),
        "limit": (3, "int64"),
        "revision": (4, "int64"),
        "keys_only": (8, "bool"),
        "count_only": (9, "bool"),
    },
    "RangeResponse": {
        "header": _HEADER,
        "kvs": (2, "KeyValue*"),
        "more": (3, "bool"),
        "count": (4, "int64"),
    },
    "PutRequest": {"key": (1, "bytes"), "value": (2, "bytes"), "lease": (3, "int64")},
    "PutResponse": {"header": _HEADER},
    "DeleteRangeRequest": {"key": (1, "bytes"), "range_end": (2, "bytes")},
    "DeleteRangeResponse": {"header": _HEADER, "deleted": (2, "int64")},
    "RequestOp": {
        "request_range": (1, "RangeRequest?request"),
        "request_put": (2, "PutRequest?request"),
        "request_delete_range": (3, "DeleteRangeRequest?request"),
        "request_txn": (4, "TxnRequest?request"),
    },
    "ResponseOp": {
        "response_range": (1, "RangeResponse?response"),
        "response_put": (2, "PutResponse?response"),
        "response_delete_range": (3, "DeleteRangeResponse?response"),
        "response_txn": (4, "TxnResponse?response"),
    },
    "Compare": {
        "result": (1, "enum"),
        "target": (2, "enum"),
        "key": (3, "bytes"),
        "version": (4, "int64?target_union"),
        "create_revision": (5, "int64?target_union"),
        "mod_revision": (6, "int64?target_union"),
        "value": (7, "bytes?target_union"),
        "lease": (8, "int64?target_union"),
        "range_end": (64, "bytes"),
    },
    "TxnRequest": {
        "compare": (1, "Compare*"),
        "success": (2, "RequestOp*"),
        "failure": (3, "RequestOp*"),
    },
    "TxnResponse": {"header": _HEADER, "succeeded": (2, "bool"), "responses": (3, "ResponseOp*")},
    "WatchCreateRequest": {
        "key": (1, "bytes"),
        "range_end": (2, "bytes"),
        "start_revision": (3, "int64"),
    },
    "WatchRequest": {"create_request": (1, "WatchCreateRequest?request_union")},
    "WatchResponse": {
        "header": _HEADER,
        "canceled": (4, "bool"),
        "compact_revision": (5, "int64"),
        "cancel_reason": (6, "string"),
        "events": (11, "Event*"),
    },
    "LeaseGrantRequest": {"TTL": (1, "int64")},
    "LeaseGrantResponse": {"header": _HEADER, "ID": (2, "int64")},
    "LeaseRevokeRequest": {"ID": (1, "int64")},
    "LeaseRevokeResponse": {"header": _HEADER},
    "LeaseKeepAliveRequest": {"ID": (1, "int64")},
    "LeaseKeepAliveResponse": {"header": _HEADER, "TTL": (3, "int64")},
    "LeaseTimeToLiveRequest": {"ID": (1, "int64")},
    "LeaseTimeToLiveResponse": {
        "header": _HEADER,
        "TTL": (3, "int64"),
        "grantedTTL": (4, "int64"),
    },
    "StatusRequest": {},
    "StatusResponse": {"header": _HEADER, "version": (2, "string")},
    "AuthenticateRequest": {"name": (1, "string"), "password": (2, "string")},
    "AuthenticateResponse": {"header": _HEADER, "token": (2, "string")},
}


class Kind(IntEnum):
    """Of an Event."""

    PUT = 0
    DELETE = 1


class Result(IntEnum):
    """What a Compare wants to hold."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class Target(IntEnum):
    """What a Compare compares."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


_CLASSES = message_classes("coil.etcd", _MESSAGES)
AuthenticateRequest = _CLASSES["AuthenticateRequest"]
AuthenticateResponse = _CLASSES["AuthenticateResponse"]
Compare = _CLASSES["Compare"]
DeleteRangeRequest = _CLASSES["DeleteRangeRequest"]
DeleteRangeResponse = _CLASSES["DeleteRangeResponse"]
Event = _CLASSES["Event"]
KeyValue = _CLASSES["KeyValue"]
LeaseGrantRequest = _CLASSES["LeaseGrantRequest"]
LeaseGrantResponse = _CLASSES["LeaseGrantResponse"]
LeaseKeepAliveRequest = _CLASSES["LeaseKeepAliveRequest"]
LeaseKeepAliveResponse = _CLASSES["LeaseKeepAliveResponse"]
LeaseRevokeRequest = _CLASSES["LeaseRevokeRequest"]
LeaseRevokeResponse = _CLASSES["LeaseRevokeResponse"]
LeaseTimeToLiveRequest = _CLASSES["LeaseTimeToLiveRequest"]
LeaseTimeToLiveResponse = _CLASSES["LeaseTimeToLiveResponse"]
PutRequest = _CLASSES["PutRequest"]
PutResponse = _CLASSES["PutResponse"]
RangeRequest = _CLASSES["RangeRequest"]
RangeResponse = _CLASSES["RangeResponse"]
RequestOp = _CLASSES["RequestOp"]
ResponseHeader = _CLASSES["ResponseHeader"]
ResponseOp = _CLASSES["ResponseOp"]
StatusRequest = _CLASSES["StatusRequest"]
StatusResponse = _CLASSES["StatusResponse"]
TxnRequest = _CLASSES["TxnRequest"]
TxnResponse = _CLASSES["TxnResponse"]
WatchCreateRequest = _CLASSES["WatchCreateRequest"]
WatchRequest = _CLASSES["WatchRequest"]
WatchResponse = _CLASSES["WatchResponse"]
