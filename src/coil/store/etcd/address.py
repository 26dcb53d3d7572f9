"""What ``etcd://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?ca=&cert=&key=&timeout=`` says."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote

from coil.domain.errors import ConfigError
from coil.kube.endpoints import ServiceName, parse_service

FORM = "etcd://HOST:PORT,HOST:PORT/PREFIX?ca=FILE&cert=FILE&key=FILE&timeout=SECONDS"
"""In a pod of Kubernetes also @NAME.NAMESPACE instead of the hosts: a service."""
DEFAULT_PORT = 2379
DEFAULT_PREFIX = "/coil/"
DEFAULT_TIMEOUT = 3.0
"""Seconds of one call with all its retries: more than an election of etcd takes (1 to 2 s)."""
_MIN_TIMEOUT, _MAX_TIMEOUT = 0.1, 60.0
_HOST = re.compile(r"\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[!-~]*")
_PARAMETERS = ("ca", "cert", "key", "timeout")


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """Where etcd is, and as whom and how it is asked."""

    endpoints: tuple[str, ...]
    """HOST:PORT, in the order in which they are tried; none where a service is to be looked up."""
    prefix: str
    """Begins and ends with a slash: everything of this store has it in front of its key."""
    tls: ssl.SSLContext | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = DEFAULT_TIMEOUT
    service: ServiceName | None = None

    def __str__(self) -> str:
        if self.service is not None:
            return f"etcd of {self.service}"
        return f"etcd at {', '.join(self.endpoints)}"


def parse_address(parts: SplitResult) -> EtcdAddress:
    """Read the URL; its certificates are read now, too. Raises ConfigError."""
    if any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        # Nothing of it is shown: it may be half a password.
        raise ConfigError(
            "the URL of etcd has an '@' behind the hosts: in a password write '/' as %2F, '?' as "
            f"%3F, '#' as %23, in a prefix or file '@' as %40; {_form()}"
        )
    userinfo, at, hosts = parts.netloc.rpartition("@")
    # A user's own @ is written %40: two in a row, or one without a user, name a service.
    by_name = bool(at) and (not userinfo or userinfo.endswith("@"))
    user, password = _parse_user(userinfo.removesuffix("@"))
    parameters = _parse_parameters(parts)
    return EtcdAddress(
        endpoints=() if by_name else tuple(map(_parse_endpoint, hosts.split(","))),
        service=_parse_service(hosts) if by_name else None,
        prefix=_parse_prefix(parts.path),
        tls=_read_tls(parameters),
        user=user,
        password=password,
        timeout=_parse_timeout(parameters.get("timeout")),
    )


def _parse_service(text: str) -> ServiceName:
    try:
        return parse_service(text)
    except ConfigError as exc:
        raise ConfigError(f"{exc.message}; {_form()}") from exc


def _parse_user(userinfo: str) -> tuple[str, str]:
    user, colon, password = userinfo.partition(":")
    if userinfo and not (user and colon and password):
        raise ConfigError(f"a user of etcd needs a password, USER:PASSWORD@HOST; {_form()}")
    return unquote(user), unquote(password)


def _parse_endpoint(text: str) -> str:
    host, port = text, str(DEFAULT_PORT)
    bracket = text.rfind("]")
    if ":" in text[bracket + 1 :]:
        host, _colon, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or (bracket >= 0 and not _is_ipv6(host.strip("[]"))):
        raise ConfigError(f"{text!r} is not an endpoint HOST:PORT of etcd; {_form()}")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"{text!r} has no port from 1 to 65535; {_form()}")
    return f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_prefix(path: str) -> str:
    prefix = unquote(path).strip("/")
    if not _PREFIX.fullmatch(prefix) or "//" in prefix:
        raise ConfigError(
            f"prefix {prefix!r} must be printable ASCII without blanks or double slashes; {_form()}"
        )
    return f"/{prefix}/" if prefix else DEFAULT_PREFIX


def _parse_parameters(parts: SplitResult) -> dict[str, str]:
    if parts.fragment:
        raise ConfigError(f"the URL of etcd has no part behind a '#'; {_form()}")
    found: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise ConfigError(f"the URL of etcd has an unknown parameter {name!r}; {_form()}")
        if name in found:
            raise ConfigError(f"the URL of etcd has parameter {name!r} twice; {_form()}")
        found[name] = value
    return found


def _parse_timeout(text: str | None) -> float:
    if text is None:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _MIN_TIMEOUT <= seconds <= _MAX_TIMEOUT:
        raise ConfigError(
            f"timeout={text} must be {_MIN_TIMEOUT:g} to {_MAX_TIMEOUT:g} seconds; {_form()}"
        )
    return seconds


def _read_tls(parameters: dict[str, str]) -> ssl.SSLContext | None:
    files = {name: file for name, file in parameters.items() if name != "timeout"}
    if not files:
        return None
    if ("cert" in files) != ("key" in files):
        raise ConfigError(f"a client certificate needs both cert= and key=; {_form()}")
    for name, file in files.items():
        _check_pem(name, file)
    return _trust(files)


def _trust(files: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        if "ca" in files:
            context.load_verify_locations(files["ca"])
        else:
            context.load_default_certs()
    except ssl.SSLError as exc:
        raise ConfigError(f"ca={files['ca']} holds no certificate that can be read") from exc
    try:
        if "cert" in files:
            context.load_cert_chain(files["cert"], files["key"], password=lambda: "")
    except ssl.SSLError as exc:
        raise ConfigError(
            f"cert={files['cert']} and key={files['key']} are not a certificate and its key "
            "(without a passphrase)"
        ) from exc
    return context


def _check_pem(name: str, text: str) -> None:
    try:
        content = Path(text).read_bytes()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigError(f"cannot read {name}={text}: {reason}") from exc
    if b"-----BEGIN " not in content:
        raise ConfigError(f"{name}={text} is not a PEM file")


def _form() -> str:
    return f"write {FORM}"
