"""What gRPC and etcd answer becomes an error of the store, here and nowhere else.

A failed call is told apart by what it means for a write: was it surely not executed (``NOT_SENT``:
it may be sent to another endpoint), or may it have been (``UNKNOWN``)? Texts of etcd's errors:
https://github.com/etcd-io/etcd/blob/main/api/v3rpc/rpctypes/error.go
"""

from __future__ import annotations

from enum import Enum, auto

import grpc

from coil.domain.errors import CoilError, ConfigError
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd.address import EtcdAddress


class Outcome(Enum):
    """What became of a call that failed."""

    NOT_SENT = auto()
    """Surely not executed; another endpoint, or the same a little later, may."""
    UNKNOWN = auto()
    """May have been executed; another endpoint may be asked again where that does no harm."""
    TOKEN = auto()
    """Not executed: log in again."""
    REFUSED = auto()
    """Not executed, and would not be by anybody."""


_NOT_SENT = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "errors resolving",
    "Name resolution",
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: too many requests",
    "etcdserver: server stopped",
)
_TOKENS = ("invalid auth token", "user name is empty", "revision of auth store is old")


def outcome(exc: grpc.aio.AioRpcError) -> Outcome:
    """Tell what a failed call means."""
    code, details = exc.code(), exc.details() or ""
    if any(text in details for text in _TOKENS):
        return Outcome.TOKEN
    if any(text in details for text in _NOT_SENT):
        return Outcome.NOT_SENT
    if code in _MAY_PASS:
        return Outcome.UNKNOWN
    return Outcome.REFUSED


_MAY_PASS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNKNOWN,
    }
)


def translated(address: EtcdAddress, exc: grpc.aio.AioRpcError) -> CoilError:
    """The store's error for a call that is not tried again."""
    details = exc.details() or exc.code().name
    if exc.code() is grpc.StatusCode.PERMISSION_DENIED:
        return StoreError(
            f"{address}: user {address.user or '(none)'} may not use prefix {address.prefix}: "
            "grant it a role with readwrite permission on it"
        )
    if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
        return StoreError(
            f"{address}: does not speak etcd's API v3; coil needs etcd 3.4 or newer at this port"
        )
    for text, advice in _CONFIG.items():
        if text in details:
            return ConfigError(f"{address}: {advice}")
    return StoreUnavailable(f"{address}: {_hint(details)}")


_CONFIG = {
    "authentication failed": "wrong user name or password",
    "authentication is not enabled": "knows no users; leave USER:PASSWORD@ out of the URL",
    "user name is empty": "wants a user: write etcd://USER:PASSWORD@HOST:PORT",
}
_HINTS = {
    "certificate has expired": "its certificate has expired",
    "certificate is not yet valid": "its certificate is not valid yet, or this clock is wrong",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by ca=",
    "certificate verify failed": "its certificate is not signed by ca=",
    "Hostname Verification Check failed": (
        "its certificate is not for this name: write the endpoint as the certificate names it"
    ),
    "WRONG_VERSION_NUMBER": "it does not speak TLS: leave ca= out of the URL",
    "wrong version number": "it does not speak TLS: leave ca= out of the URL",
    "TSI_DATA_CORRUPTED": (
        "it refuses this client: give cert= and key= of a certificate that its authority signed "
        "and that has not expired"
    ),
    "Failed parsing HTTP/2": "what listens there is not etcd, or wants TLS: then give ca=",
    "Socket closed": "it closed the connection: if it wants TLS give ca=",
    "before receiving SETTINGS frame": "it did not answer in time",
    "Deadline Exceeded": "it did not answer in time",
    "Connection refused": "nothing listens there",
    "DNS resolution failed": "the name cannot be resolved",
    "errors resolving": "the name cannot be resolved",
    "Name resolution": "the name cannot be resolved",
    "database space exceeded": (
        "its database is full: compact and defragment it, then etcdctl alarm disarm"
    ),
}


def _hint(details: str) -> str:
    """What an operator can do, where gRPC's own word is for programmers only."""
    return next((hint for text, hint in _HINTS.items() if text in details), details)
