"""The few sysctls coil depends on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coil.nodenet.errors import KernelRefused

_ROOT = Path("/proc/sys/net")
_FORWARDING = {4: _ROOT / "ipv4/ip_forward", 6: _ROOT / "ipv6/conf/all/forwarding"}


def forwarding(version: int) -> bool:
    """Whether this namespace forwards packets of the family; False where it has no such family."""
    try:
        return _FORWARDING[version].read_text().strip() == "1"
    except OSError:
        return False


def ip_versions() -> frozenset[int]:
    """IP versions that links of this namespace can have.

    Not 6 where that is switched off: at boot (ipv6.disable=1: the kernel then refuses whatever is
    of the family), or for ``lo``, which exported routes need, or for new links. Raises
    KernelRefused.
    """
    switches = (_ROOT / "ipv6/conf" / name / "disable_ipv6" for name in ("lo", "default"))
    return frozenset({4, 6} if all(_is_zero(switch) for switch in switches) else {4})


def _is_zero(path: Path) -> bool:
    try:
        return path.read_text().strip() == "0"
    except FileNotFoundError:
        return False
    except OSError as exc:  # no descriptor is left, say: that means neither on nor off
        raise KernelRefused(f"read {path}", exc.errno or 0) from exc


def enable_forwarding(version: int) -> None:
    """Let this namespace forward packets of the family; idempotent. Raises KernelRefused."""
    _write(_FORWARDING[version], "1")


def ensure_forwarding(versions: Iterable[int]) -> list[str]:
    """Have forwarding on for these families; returns what had to be switched. Idempotent."""
    off = [version for version in sorted(versions) if not forwarding(version)]
    for version in off:
        enable_forwarding(version)
    return [f"forwarding of IPv{version}" for version in off]


def enable_ipv6(ifname: str) -> None:
    """Allow IPv6 on a link of the namespace the calling thread is in. Raises KernelRefused.

    Runtimes make namespaces with disable_ipv6=1 when nobody asked for IPv6; on the host a script
    that goes through all links may have switched it off.
    """
    _write(_ROOT / "ipv6/conf" / ifname / "disable_ipv6", "0")


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as exc:
        raise KernelRefused(f"set {path} to {value}", exc.errno or 0) from exc
