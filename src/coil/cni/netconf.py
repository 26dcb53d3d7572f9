"""The network configuration on standard input."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from coil.cni import versions
from coil.cni.errors import BadNetconf, IncompatibleVersion, Undecodable, UnsupportedField
from coil.domain.attachment import AttachmentKey
from coil.domain.errors import InvalidName
from coil.domain.names import PoolName, parse_container_id, parse_ifname, parse_pool_name

DEFAULT_TIMEOUT = 30.0
_MAX_TIMEOUT = 3600.0
_MIN_MTU, _MAX_MTU = 68, 65_535
# CNI specification, section 1, "name".
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_VALID_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""The second is what some releases of libcni send instead."""

_DNS_LISTS = ("nameservers", "search", "options")


@dataclass(frozen=True, slots=True)
class Netconf:
    """What coil reads of it. Unknown keys are other people's and ignored."""

    version: str
    name: str
    pool: PoolName | None = None
    mtu: int | None = None
    dns: Mapping[str, object] = field(default_factory=dict)
    """For the result; empty leaves it as the plugins before have it."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds a request may take."""
    prev_result: Mapping[str, object] | None = None
    valid_attachments: tuple[AttachmentKey, ...] | None = None
    """GC's list; None when it was not sent (cnitool sends none): then nothing is stale."""
    raw: Mapping[str, object] = field(default_factory=dict)


def decode(body: bytes) -> dict[str, object]:
    """The JSON object in ``body``. Raises Undecodable."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as exc:
        reason = "nested too deep" if isinstance(exc, RecursionError) else str(exc)
        raise Undecodable(f"standard input is not a JSON network configuration: {reason}") from exc
    if not isinstance(found, dict):
        raise Undecodable("standard input must be a JSON object, the network configuration")
    return found


def version_of(found: Mapping[str, object]) -> str:
    """cniVersion, checked. Raises IncompatibleVersion, BadNetconf."""
    version = found.get("cniVersion", versions.ABSENT)
    if not isinstance(version, str):
        raise BadNetconf("cniVersion must be a string")
    if version not in versions.SUPPORTED:
        raise IncompatibleVersion(
            f"cniVersion {version[:40]!r} is not supported; use one of "
            + ", ".join(versions.SUPPORTED)
        )
    return version


def parse_netconf(
    found: Mapping[str, object], *, gives: bool = True, compares: bool = True
) -> Netconf:
    """Check what coil uses of a netconf. Raises IncompatibleVersion, BadNetconf.

    ``gives``: whether an address is asked for; ``compares``: whether the result so far matters.
    What only these need keeps no pod from going.
    """
    return Netconf(
        version=version_of(found),
        name=_name(found),
        pool=_pool(found) if gives else None,
        mtu=_mtu(found) if gives else None,
        dns=_dns(found) if gives else {},
        timeout=_timeout(found),
        prev_result=_prev_result(found) if compares else None,
        valid_attachments=_valid_attachments(found),
        raw=found,
    )


def check_supported(found: Mapping[str, object], arguments: Mapping[str, str]) -> None:
    """Refuse what would otherwise be silently ignored: foreign IPAM, a wish for an address.

    ``arguments``: of CNI_ARGS. Raises UnsupportedField.
    """
    ipam = found.get("ipam")
    if isinstance(ipam, dict) and ipam.get("type"):
        raise UnsupportedField(
            f"ipam type {str(ipam['type'])[:40]!r}: coil gives addresses itself; remove ipam"
        )
    places = (found.get("runtimeConfig"), _sub(found.get("args"), "cni"))
    # IP is how runtimes wish for one address (podman run --ip), ips for several.
    for wished in (*(_sub(place, "ips") for place in places), arguments.get("IP")):
        if wished:
            raise UnsupportedField(
                f"address {str(wished)[:80]}: coil chooses addresses; use a pool of your own "
                "instead"
            )
    # Not MAC in CNI_ARGS: every plugin of the chain gets that, and tuning does it.
    for mac in (_sub(place, "mac") for place in places):
        if mac:
            raise UnsupportedField(
                f"mac {str(mac)[:80]}: coil makes MAC addresses itself; give the capability mac to "
                "tuning, behind coil"
            )


def _sub(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _name(found: Mapping[str, object]) -> str:
    name = found.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadNetconf(
            "name is required and must begin with a letter or digit, followed by letters, "
            "digits, '_', '.' or '-'"
        )
    return name


def _pool(found: Mapping[str, object]) -> PoolName | None:
    pool = found.get("pool")
    if pool is None or pool == "":
        return None
    if not isinstance(pool, str):
        raise BadNetconf("pool must be a string, the name of a pool")
    try:
        return parse_pool_name(pool)
    except InvalidName as exc:
        raise BadNetconf(exc.message) from exc


def _mtu(found: Mapping[str, object]) -> int | None:
    mtu = found.get("mtu")
    if mtu is None or (mtu == 0 and not isinstance(mtu, bool)):
        return None
    if isinstance(mtu, bool) or not isinstance(mtu, int) or not _MIN_MTU <= mtu <= _MAX_MTU:
        raise BadNetconf(f"mtu must be a whole number, 0 (detect) or {_MIN_MTU} to {_MAX_MTU}")
    return mtu


def _dns(found: Mapping[str, object]) -> Mapping[str, object]:
    """What a result may say of DNS, without the keys it does not know."""
    dns = found.get("dns")
    if dns is None:
        return {}
    if not isinstance(dns, dict):
        raise BadNetconf("dns must be an object")
    told = {key: dns[key] for key in ("domain", *_DNS_LISTS) if dns.get(key) is not None}
    if not isinstance(told.get("domain", ""), str):
        raise BadNetconf("dns: domain must be a string")
    for key in _DNS_LISTS:
        texts = told.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadNetconf(f"dns: {key} must be a list of strings")
    return {key: value for key, value in told.items() if value}


def _timeout(found: Mapping[str, object]) -> float:
    timeout = found.get("timeout")
    if timeout is None:
        return DEFAULT_TIMEOUT
    fits = (
        isinstance(timeout, int | float)
        and not isinstance(timeout, bool)
        and math.isfinite(timeout)
        and 0 < timeout <= _MAX_TIMEOUT
    )
    if not fits or not isinstance(timeout, int | float):
        raise BadNetconf(f"timeout must be a number of seconds above 0, up to {_MAX_TIMEOUT:.0f}")
    return float(timeout)


def _prev_result(found: Mapping[str, object]) -> Mapping[str, object] | None:
    previous = found.get("prevResult")
    if previous is not None and not isinstance(previous, dict):
        raise BadNetconf("prevResult must be an object")
    return previous


def _valid_attachments(found: Mapping[str, object]) -> tuple[AttachmentKey, ...] | None:
    for key in _VALID_KEYS:
        if key in found:
            # null is how libcni writes an empty list (a nil slice of Go).
            entries = [] if found[key] is None else _list(key, found[key])
            return tuple(_attachment(key, entry) for entry in entries)
    return None


def _list(key: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise BadNetconf(f"{key} must be a list")
    return value


def _attachment(key: str, entry: object) -> AttachmentKey:
    if not isinstance(entry, dict):
        raise BadNetconf(f"{key} must list objects with containerID and ifname")
    try:
        return AttachmentKey(
            parse_container_id(str(entry.get("containerID", ""))),
            parse_ifname(str(entry.get("ifname", ""))),
        )
    except InvalidName as exc:
        raise BadNetconf(f"{key}: {exc.message}") from exc
