"""A configuration for FRR 8.4 (https://docs.frrouting.org): zebra, bgpd and bfdd in one file.

What zebra of FRR 8.4 can import, found by trying: IPv4 routes of another kernel table
(``ip import-table``, tables 1 to 252), and routes of main, where it cannot see who made them. There
is no ``ipv6 import-table``. So an IPv6 node has its blocks exported to main; there they are told
from other routes by their link, ``lo``.
"""

from __future__ import annotations

from collections.abc import Iterator

from coil.domain.errors import ConfigError
from coil.routing.model import MAIN_TABLE, NOT_FABRIC, Neighbour, Role, Router

_IP = {4: "ip", 6: "ipv6"}
_ALL = {4: "0.0.0.0/0 le 32", 6: "::/0 le 128"}
_MAX_IMPORT_TABLE = 252
_MULTIPATH = 64


def frr_config(router: Router) -> str:
    """The whole frr.conf. Raises ConfigError for what FRR 8.4 cannot do."""
    if router.aggregates:
        raise ConfigError("aggregates are written for BIRD only; use router-config bird")
    if router.role is Role.NODE:
        _check_import(router)
    sections = (
        _head(router), _import(router), _source(router), _bfd(router), _filters(router),
        _bgp(router),
    )  # fmt: skip
    return "!\n".join("".join(line + "\n" for line in section) for section in sections)


def _check_import(router: Router) -> None:
    table = router.export_table
    if table == MAIN_TABLE:
        return
    if 6 in router.families():
        raise ConfigError(
            "FRR 8.4 cannot import IPv6 routes from a table other than main: start coild with "
            f"--export-table {MAIN_TABLE} and give the same here (or use BIRD)"
        )
    if table > _MAX_IMPORT_TABLE:
        raise ConfigError(
            f"FRR imports from tables 1 to {_MAX_IMPORT_TABLE}, or from main ({MAIN_TABLE}); "
            f"table {table} is neither"
        )


def _head(router: Router) -> Iterator[str]:
    yield f"! FRR 8.4 on {router.role} {router.name}, AS {router.asn}. Written by coilctl "
    yield "! router-config. Save as /etc/frr/frr.conf; /etc/frr/daemons needs bgpd=yes"
    yield f"! {'and bfdd=yes ' if router.bfd else ''}beside zebra. Check with: vtysh -C."
    yield "frr defaults datacenter"
    yield f"hostname {router.name}"
    yield "log syslog informational"


def _import(router: Router) -> Iterator[str]:
    if router.role is not Role.NODE:
        return
    if router.export_table == MAIN_TABLE:
        yield "! The blocks of this node are in the main table (coild --export-table 254), because"
        yield "! FRR 8.4 imports no IPv6 routes from another one: see redistribute kernel below."
        return
    table = router.export_table
    yield f"! From kernel table {table}: the blocks this node owns, one route each. zebra puts"
    yield "! copies into the main table; no pod's packet gets there, since rule 2000 comes first."
    yield "! It cannot see who made a route: nobody but coild may write to that table."
    yield f"ip import-table {table}"


def _source(router: Router) -> Iterator[str]:
    yield "! What this machine sends has its loopback as source: that stays reachable when any one"
    yield "! link is lost. All ways to a destination are used (ECMP); for flows to be spread by"
    yield "! port too, set the sysctls net.ipv4.fib_multipath_hash_policy and net.ipv6... to 1."
    for version in router.families():
        loopback = router.find_loopback(version)
        if loopback:
            yield f"route-map SOURCE{version} permit 10"
            yield f" set src {loopback}"
            yield "exit"
            yield f"{_IP[version]} protocol bgp route-map SOURCE{version}"


def _bfd(router: Router) -> Iterator[str]:
    if not router.bfd:
        return
    yield "! A lost link is noticed after multiplier x interval, whatever BGP's timers say."
    yield "bfd"
    yield " profile fabric"
    yield f"  detect-multiplier {router.bfd.multiplier}"
    yield f"  receive-interval {router.bfd.interval_ms}"
    yield f"  transmit-interval {router.bfd.interval_ms}"
    yield " exit"
    yield "exit"


def _filters(router: Router) -> Iterator[str]:
    for version in router.families():
        yield f"! IPv{version}: what may be in the fabric at all. A default route never is."
        for number, (refused, longest) in enumerate(NOT_FABRIC[version], start=1):
            yield f"{_list(version, 'FABRIC')} seq {number} deny {refused} le {longest}"
        yield f"{_list(version, 'FABRIC')} seq 99 permit {_ALL[version]}"
        yield "! The same but for this router's own loopback: what it believes others."
        for number, network in enumerate(router.loopback_networks(version), start=1):
            yield f"{_list(version, 'FOREIGN')} seq {number} deny {network}"
        yield f"{_list(version, 'FOREIGN')} seq 99 permit {_ALL[version]}"
        yield f"route-map FROM{version} permit 10"
        yield from _match(version, "FABRIC")
        yield " on-match next"
        yield "exit"
        yield f"route-map FROM{version} permit 20"
        yield from _match(version, "FOREIGN")
        yield "exit"
        yield from _export_maps(router, version)


def _export_maps(router: Router, version: int) -> Iterator[str]:
    if router.role is Role.NODE:
        yield "! Blocks: coild's routes are the ones by lo."
        yield f"route-map BLOCKS{version} permit 10"
        yield from _match(version, "FABRIC")
        yield " match interface lo"
        yield "exit"
    if router.role is Role.TOR and version == router.families()[0]:
        yield "! Of this rack: no AS in the path yet. A ToR is no way from one spine to another."
        yield "bgp as-path access-list RACK permit ^$"
    if router.role is Role.TOR:
        yield f"route-map TO_SPINE{version} permit 10"
        yield " match as-path RACK"
        yield from _match(version, "FABRIC")
        yield "exit"
    yield f"route-map TO_FABRIC{version} permit 10"
    yield from _match(version, "FABRIC")
    yield "exit"


def _list(version: int, name: str) -> str:
    return f"{_IP[version]} prefix-list {name}{version}"


def _match(version: int, name: str) -> Iterator[str]:
    yield f" match {_IP[version]} address prefix-list {name}{version}"


def _bgp(router: Router) -> Iterator[str]:
    yield "! Sessions. Times are short: a fabric wants to be there at once."
    yield f"router bgp {router.asn}"
    yield f" bgp router-id {router.id}"
    yield " no bgp default ipv4-unicast"
    yield " ! Ways over several spines count as equal though their AS paths differ."
    yield " bgp bestpath as-path multipath-relax"
    yield f" timers bgp {router.timers.keepalive} {router.timers.hold}"
    for neighbour in router.neighbours:
        yield from _neighbour(router, neighbour)
    for version in router.families():
        yield f" address-family ipv{version} unicast"
        yield from _family(router, version)
        yield " exit-address-family"
    yield "exit"


def _neighbour(router: Router, neighbour: Neighbour) -> Iterator[str]:
    start = f" neighbor {neighbour.address}"
    yield f"{start} remote-as {neighbour.asn}"
    if neighbour.name:
        yield f"{start} description {neighbour.name}"
    yield f"{start} timers connect {router.timers.connect_retry}"
    yield f"{start} advertisement-interval 0"
    if router.bfd:
        yield f"{start} bfd"
        yield f"{start} bfd profile fabric"


def _family(router: Router, version: int) -> Iterator[str]:
    for network in router.loopback_networks(version):
        yield f"  network {network}"
    if router.role is Role.NODE:
        kind = "kernel" if router.export_table == MAIN_TABLE else f"table {router.export_table}"
        yield f"  redistribute {kind} route-map BLOCKS{version}"
    yield f"  maximum-paths {_MULTIPATH}"
    yield f"  maximum-paths ibgp {_MULTIPATH}"
    for neighbour in router.neighbours:
        if neighbour.version == version:
            yield from _policy(router, neighbour)


def _policy(router: Router, neighbour: Neighbour) -> Iterator[str]:
    start = f"  neighbor {neighbour.address}"
    to_node = router.role is Role.TOR and router.is_internal(neighbour)
    to_spine = router.role is Role.TOR and not router.is_internal(neighbour)
    limit = router.limits.node if to_node else router.limits.fabric
    yield f"{start} activate"
    if to_node:
        yield "  ! This node hears of the others of the rack by us."
        yield f"{start} route-reflector-client"
    if router.is_internal(neighbour):
        yield f"{start} next-hop-self{' force' if to_node else ''}"
    yield f"{start} route-map FROM{neighbour.version} in"
    yield f"{start} route-map {'TO_SPINE' if to_spine else 'TO_FABRIC'}{neighbour.version} out"
    yield "  ! More routes than this end the session for a minute: FRR cannot only refuse them."
    yield f"{start} maximum-prefix {limit} restart 1"
