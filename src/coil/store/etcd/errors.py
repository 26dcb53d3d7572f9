"""What etcd answers, and what befalls a connection, becomes an error of the store here only.

A failed call is told apart by what it means for a write: was it surely not executed (``NOT_SENT``:
it may be sent to another endpoint), or may it have been (``UNKNOWN``)? Texts of etcd's errors:
https://github.com/etcd-io/etcd/blob/main/api/v3rpc/rpctypes/error.go
"""

from __future__ import annotations

import os
import socket
import ssl
from enum import Enum, auto

from grpclib.const import Status

from coil.domain.errors import CoilError
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd.address import EtcdAddress
from coil.store.etcd.channel import CallFailed, NotHttp2Error


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


_NOT_EXECUTED = (
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: too many requests",
    "etcdserver: server stopped",
)
_TOKENS = ("invalid auth token", "user name is empty", "revision of auth store is old")


def is_of_permission(reason: str) -> bool:
    """Whether a watch was ended for want of a permission, or of a token that is known."""
    return any(text in reason for text in ("permission denied", *_TOKENS))


def outcome(exc: CallFailed) -> Outcome:
    """Tell what a failed call means."""
    if any(text in exc.details for text in _TOKENS):
        return Outcome.TOKEN
    if not exc.sent or any(text in exc.details for text in _NOT_EXECUTED):
        return Outcome.NOT_SENT
    if exc.status is None or exc.status in _MAY_PASS:
        return Outcome.UNKNOWN
    return Outcome.REFUSED


_MAY_PASS = frozenset(
    {
        Status.UNAVAILABLE,
        Status.DEADLINE_EXCEEDED,
        Status.CANCELLED,
        Status.INTERNAL,
        Status.ABORTED,
        Status.UNKNOWN,
    }
)


def translated(address: EtcdAddress, exc: CallFailed) -> CoilError:
    """The store's error for a call that is not tried again."""
    if exc.status is Status.PERMISSION_DENIED:
        return StoreError(
            f"{address}: user {address.user or '(none)'} may not use prefix {address.prefix}: "
            "grant it a role with readwrite permission on it"
        )
    if exc.status is Status.UNIMPLEMENTED:
        return StoreError(
            f"{address}: does not speak etcd's API v3; coil needs etcd 3.4 or newer at this port"
        )
    for text, advice in _CONFIG.items():
        if text in exc.details:
            return StoreError(f"{address}: {advice}")
    return StoreUnavailable(f"{address}: {_hint(exc, tls=address.tls is not None)}")


_CONFIG = {
    "authentication failed": "wrong user name or password",
    "authentication is not enabled": "knows no users; leave USER:PASSWORD@ out of the URL",
    "user name is empty": "wants a user: write etcd://USER:PASSWORD@HOST:PORT",
}
_REFUSED = "give cert= and key= of a certificate that its authority signed and that has not expired"
_FULL = "database space exceeded"
_CERTIFICATES = {
    9: "its certificate is not valid yet, or this clock is wrong",
    10: "its certificate has expired",
    62: "its certificate is not for this name: write the endpoint as the certificate names it",
    64: "its certificate is not for this name: write the endpoint as the certificate names it",
}
"""By OpenSSL's numbers, X509_V_ERR_*."""
_HINTS: dict[type[Exception], str] = {
    TimeoutError: "it did not answer in time",
    socket.gaierror: "the name cannot be resolved",
    UnicodeError: "the name cannot be resolved",
    NotHttp2Error: "what listens there is not etcd, or wants TLS: then give ca=",
    ConnectionRefusedError: "nothing listens there",
}


def _hint(exc: CallFailed, *, tls: bool) -> str:
    """What an operator can do, where the library's own word is for programmers only."""
    if isinstance(exc.cause, ssl.SSLError):
        return _tls_hint(exc.cause)
    if isinstance(exc.cause, ConnectionError) and exc.sent:
        return "the connection was lost"
    for kind, hint in _HINTS.items():
        if isinstance(exc.cause, kind):
            return hint
    if isinstance(exc.cause, OSError):
        return _system_hint(exc.cause, tls=tls)
    if _FULL in exc.details:
        return "its database is full: compact and defragment it, then etcdctl alarm disarm"
    return exc.details


def _tls_hint(cause: ssl.SSLError) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(cause.verify_code, "its certificate is not signed by ca=")
    if "ALERT" in (cause.reason or ""):
        return f"it refuses this client: {_REFUSED}"
    return "it does not speak TLS: leave ca= out of the URL"


def _system_hint(cause: OSError, *, tls: bool) -> str:
    if isinstance(cause, ConnectionError):
        advice = (
            "it does not speak TLS leave ca= out of the URL" if tls else "it wants TLS give ca="
        )
        return f"it closed the connection: if {advice}"
    return os.strerror(cause.errno) if cause.errno else str(cause)
