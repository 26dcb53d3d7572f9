"""Results of ADD in the form of each version, also merged into a previous plugin's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface

from coil.cni import versions
from coil.cni.errors import BadNetconf

Address = IPv4Address | IPv6Address
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Interface:
    """A link: the host's end (no sandbox) or the pod's."""

    name: str
    mac: str
    mtu: int
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What an ADD made: links, and addresses on the last of them."""

    interfaces: tuple[Interface, ...]
    addresses: tuple[Address, ...]
    gateways: Mapping[int, Address] = field(default_factory=dict)
    """By IP version; also where the default routes lead."""
    dns: Mapping[str, object] = field(default_factory=dict)
    """The netconf's word; where there is none a previous result's stays, as ptp has it."""


def to_json(result: Result, version: str, previous: Mapping[str, object] | None = None) -> Json:
    """The result object in ``version``, appended to ``previous`` where there is one.

    Raises BadNetconf when ``previous`` has not the form of a result.
    """
    base = dict(previous or {})
    interfaces = _list(base, "interfaces")
    own_index = len(interfaces) + len(result.interfaces) - 1
    return {
        **base,
        "cniVersion": version,
        "interfaces": [*interfaces, *(_interface(i, version) for i in result.interfaces)],
        "ips": [
            *_list(base, "ips"),
            *(_ip(a, own_index, result, version) for a in result.addresses),
        ],
        "routes": [*_list(base, "routes"), *(_route(a, result) for a in result.addresses)],
        "dns": result.dns or base.get("dns", {}),
    }


def _interface(interface: Interface, version: str) -> Json:
    found: Json = {"name": interface.name, "mac": interface.mac}
    if versions.is_at_least(version, "1.1.0"):
        found["mtu"] = interface.mtu
    if interface.sandbox:
        found["sandbox"] = interface.sandbox
    return found


def _ip(address: Address, interface: int, result: Result, version: str) -> Json:
    found: Json = {
        "address": f"{address}/{address.max_prefixlen}",
        "gateway": str(result.gateways[address.version]),
        "interface": interface,
    }
    if not versions.is_at_least(version, "1.0.0"):
        found["version"] = str(address.version)
    return found


def _route(address: Address, result: Result) -> Json:
    everything = "0.0.0.0/0" if address.version == 4 else "::/0"
    return {"dst": everything, "gw": str(result.gateways[address.version])}


def _list(base: Mapping[str, object], key: str) -> Sequence[object]:
    found = base.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadNetconf(f"prevResult: {key} must be a list")
    return found


def addresses_on(previous: Mapping[str, object], ifname: str, sandbox: str) -> list[Address]:
    """The addresses a previous result gives an interface, in its order. Raises BadNetconf.

    An entry without an interface index belongs to the only interface there is.
    """
    interfaces = _list(previous, "interfaces")
    found: list[Address] = []
    for entry in _list(previous, "ips"):
        if not isinstance(entry, dict):
            raise BadNetconf("prevResult: ips must list objects")
        if _is_on(entry.get("interface"), interfaces, ifname, sandbox):
            found.append(_interface_address(entry.get("address")).ip)
    return found


def default_gateways(previous: Mapping[str, object]) -> frozenset[Address]:
    """Where the default routes lead that a previous result lists. Raises BadNetconf."""
    found: set[Address] = set()
    for entry in _list(previous, "routes"):
        if not isinstance(entry, dict):
            raise BadNetconf("prevResult: routes must list objects")
        if entry.get("gw") and _interface_address(entry.get("dst")).network.prefixlen == 0:
            found.add(_interface_address(entry["gw"]).ip)
    return frozenset(found)


def _is_on(index: object, interfaces: Sequence[object], ifname: str, sandbox: str) -> bool:
    if index is None:
        return True
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(interfaces):
        raise BadNetconf("prevResult: an ips entry names an interface that is not there")
    interface = interfaces[index]
    if not isinstance(interface, dict):
        raise BadNetconf("prevResult: interfaces must list objects")
    return interface.get("name") == ifname and interface.get("sandbox", sandbox) == sandbox


def _interface_address(text: object) -> IPv4Interface | IPv6Interface:
    try:
        return ip_interface(str(text))
    except ValueError as exc:
        raise BadNetconf(f"prevResult: {text!r} is not an address") from exc


def version_reply(version: str) -> Json:
    """The answer to VERSION."""
    return {"cniVersion": version, "supportedVersions": list(versions.SUPPORTED)}
