"""A configuration for BIRD 2 (https://bird.network.cz, chapters 5 and 6 of its user's guide)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coil.domain.errors import ConfigError
from coil.routing.model import (
    MAIN_TABLE,
    NOT_FABRIC,
    Neighbour,
    Network,
    Role,
    Router,
    session_names,
)

# Sessions are called after neighbours, whose names may begin like this, too.
IS_AGGREGATE = 'source = RTS_STATIC && proto ~ "aggregates*"'
IS_OF_RACK = "source = RTS_BGP && bgp_path.len = 0"
"""Conditions for ``show route``: what a ToR's configuration calls so."""
_AGGREGATE_FILTER = [
    f"  if {IS_AGGREGATE} then accept;",
    "  # The blocks in an aggregate are told by it.",
    "  if is_aggregated() then reject;",
]
_OWN_PREFERENCE = 250
"""Above all that BIRD has itself (240): whatever others say, this node's blocks are its own."""


def bird_config(router: Router) -> str:
    """The whole file, for one BIRD that speaks all address families of ``router``.

    Raises ConfigError for what BIRD cannot do.
    """
    if router.role is Role.NODE and router.export_table == MAIN_TABLE:
        raise ConfigError(
            "BIRD reads a kernel table by one protocol, which for main is taken: give coild and "
            "this another --export-table"
        )
    sections = [_head(router)]
    if router.aggregates:
        sections.append(_aggregates(router))
    sections += [_filters(router), _kernel(router)]
    if router.role is Role.NODE:
        sections.append(_blocks(router))
    if router.bfd:
        sections.append(_bfd(router))
    sections.append(_sessions(router))
    return "\n".join(sections)


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _head(router: Router) -> str:
    return _lines(
        f"# BIRD 2 on {router.role} {router.name}, AS {router.asn}. Written by coilctl "
        "router-config.",
        "# Check a change with: bird -p -c FILE. Load it without a break with: birdc configure.",
        "",
        f"router id {router.id};",
        "",
        "# Reads the links of this machine; nothing works without it.",
        "protocol device {",
        "  scan time 10;",
        "}",
        "",
        "# The loopbacks are this router's names in the fabric. Only lo is read: the addresses of",
        "# links between routers concern nobody else, and pods' links hold none to announce.",
        "protocol direct loopback {",
        *(f"  ipv{version};" for version in router.families()),
        '  interface "lo";',
        "}",
    )


def _aggregates(router: Router) -> str:
    return _lines(
        "# Prefixes that stand for the blocks in them, and is_aggregated(), which says what they",
        "# cover: written by coil-aggregates, which has BIRD read them again. BIRD does not",
        "# start before the file is there.",
        f'include "{router.aggregates}";',
    )


def aggregates_config(announced: Iterable[Network], covering: Iterable[Network]) -> str:
    """The file that a configuration with ``aggregates`` includes; both may be empty.

    ``announced`` are announced, the blocks in ``covering`` are not announced by themselves. Each
    aggregate is an unreachable route as well: what no block has must end here, or it would follow
    a default route back to where it came from.
    """
    lines = ["# Written by coil-aggregates; changes made by hand are lost."]
    for version, found in _by_version(announced).items():
        lines += [f"protocol static aggregates{version} {{", f"  ipv{version};"]
        lines += [f"  route {network} unreachable;" for network in found]
        lines += ["}"]
    lines += ["function is_aggregated()", "{"]
    for version, found in _by_version(covering).items():
        listed = ", ".join(f"{network}+" for network in found)
        lines.append(
            f"  if net.type = NET_IP{version} then if net ~ [ {listed} ] then return true;"
        )
    lines += ["  return false;", "}"]
    return _lines(*lines)


def _by_version(networks: Iterable[Network]) -> dict[int, list[Network]]:
    found: dict[int, list[Network]] = {}
    for network in sorted(networks, key=lambda n: (n.version, int(n.network_address), n.prefixlen)):
        found.setdefault(network.version, []).append(network)
    return found


def _filters(router: Router) -> str:
    return "\n".join(
        [
            _lines(
                "# What may be in the fabric at all. A default route never is: each machine's own",
                "# is its administrator's, and one that leaks draws the traffic of all.",
                "function is_fabric_route()",
                "{",
                *_refusals(router),
                "  return true;",
                "}",
            ),
            _lines(
                "# What is this router's own: its loopbacks"
                + (" and the blocks coild exports." if router.role is Role.NODE else "."),
                "function is_own()",
                "{",
                *_own(router),
                "  return false;",
                "}",
            ),
            *(_lines(*_filter(name, body)) for name, body in _exports(router)),
        ]
    )


def _refusals(router: Router) -> Iterator[str]:
    for version in router.families():
        patterns = (
            f"{network}{{{network.rpartition('/')[2]},{longest}}}"
            for network, longest in NOT_FABRIC[version]
        )
        yield (
            f"  if net.type = NET_IP{version} then "
            f"if net ~ [ {', '.join(patterns)} ] then return false;"
        )


def _own(router: Router) -> Iterator[str]:
    for version in router.families():
        for network in router.loopback_networks(version):
            yield f"  if net.type = NET_IP{version} then if net = {network} then return true;"
    if router.role is Role.NODE:
        yield '  if source != RTS_BGP && proto ~ "blocks*" then return true;'


def _exports(router: Router) -> Iterator[tuple[str, list[str]]]:
    """Name and body of the filter for each kind of neighbour."""
    own = "  if is_own() then accept;"
    passed_on = "  if source = RTS_BGP && is_fabric_route() then accept;"
    if router.role is Role.NODE:
        yield "to_tor", [own]
    elif router.role is Role.SPINE:
        yield "to_fabric", [own, passed_on]
    else:
        yield "to_node", [own, passed_on]
        yield (
            "to_spine",
            [
                own,
                *(_AGGREGATE_FILTER if router.aggregates else []),
                "  # Of this rack only, which is what has no AS in its path yet: a route of one",
                "  # spine must never make this ToR a way to another.",
                f"  if {IS_OF_RACK} && is_fabric_route() then accept;",
            ],
        )


def _filter(name: str, body: list[str]) -> list[str]:
    return [f"filter {name}", "{", *body, "  reject;", "}"]


def _kernel(router: Router) -> str:
    text = _lines(
        "# To the kernel's main table: what the fabric told, all ways to it at once (ECMP). For",
        "# flows to be spread by port too, set the sysctls net.ipv4.fib_multipath_hash_policy and",
        "# net.ipv6.fib_multipath_hash_policy to 1. What this machine sends has its loopback as",
        "# source: that stays reachable when any one link is lost.",
    )
    for version in router.families():
        loopback = router.find_loopback(version)
        static = f" && !({IS_AGGREGATE})" if router.aggregates else ""
        accept = [f"  if source != RTS_BGP{static} then reject;"]
        if loopback:
            accept.append(f"  krt_prefsrc = {loopback};")
        text += _lines(
            f"protocol kernel main{version} {{",
            f"  ipv{version} {{",
            "    import none;",
            "    export filter {",
            *("    " + line for line in accept),
            "      accept;",
            "    };",
            "  };",
            "  merge paths on;",
            "  scan time 20;",
            "}",
        )
    return text


def _blocks(router: Router) -> str:
    text = _lines(
        f"# From kernel table {router.export_table}: the blocks of addresses this node owns. coild",
        f"# writes one route a block there (protocol {router.protocol}) once its claim is",
        "# confirmed, and takes it away before the block is given back. The table of its own is",
        "# BIRD's demand: one kernel protocol a table.",
    )
    for version in router.families():
        table = f"blocks_table{version}"
        text += _lines(
            f"ipv{version} table {table};",
            f"protocol kernel blocks_kernel{version} {{",
            f"  kernel table {router.export_table};",
            "  learn;",
            f"  ipv{version} {{",
            f"    table {table};",
            f"    import where krt_source = {router.protocol} && is_fabric_route();",
            "    export none;",
            "  };",
            "  scan time 5;",
            "}",
            f"protocol pipe blocks{version} {{",
            f"  table master{version};",
            f"  peer table {table};",
            "  import filter {",
            "    # Nobody can take a block away from its owner by announcing it too.",
            f"    preference = {_OWN_PREFERENCE};",
            "    accept;",
            "  };",
            "  export none;",
            "}",
        )
    return text


def _bfd(router: Router) -> str:
    if not router.bfd:
        return ""
    interval = router.bfd.interval_ms
    return _lines(
        "# A lost link is noticed after multiplier x interval, whatever BGP's timers say.",
        "protocol bfd {",
        '  interface "*" {',
        f"    interval {interval} ms;",
        f"    idle tx interval {interval} ms;",
        f"    multiplier {router.bfd.multiplier};",
        "  };",
        "}",
    )


def _sessions(router: Router) -> str:
    names = session_names(router.neighbours)
    text = _lines(
        "# What all sessions share. Times are short: a fabric wants to be there at once.",
        "template bgp session {",
        f"  local as {router.asn};",
        "  # The neighbour is on the link, also where both ends have one AS.",
        "  direct;",
        *(["  bfd on;"] if router.bfd else []),
        "  connect delay time 1;",
        f"  connect retry time {router.timers.connect_retry};",
        "  error wait time 1, 8;",
        f"  keepalive time {router.timers.keepalive};",
        f"  hold time {router.timers.hold};",
        "}",
    )
    return text + "".join(
        _lines(*_session(router, neighbour, names[neighbour.address]))
        for neighbour in router.neighbours
    )


def _session(router: Router, neighbour: Neighbour, name: str) -> Iterator[str]:
    export, limit = _policy(router, neighbour)
    to_node = export == "to_node"
    yield f"protocol bgp {name} from session {{"
    yield f"  neighbor {neighbour.address} as {neighbour.asn};"
    if to_node:
        yield "  rr client; # this node hears of the others of the rack by us"
    yield f"  ipv{neighbour.version} {{"
    if router.is_internal(neighbour):
        yield "    next hop self;"
    yield "    import where is_fabric_route() && !is_own();"
    yield f"    export filter {export};"
    yield f"    import limit {limit} action block; # more are refused, the session stays"
    yield "  };"
    yield "}"


def _policy(router: Router, neighbour: Neighbour) -> tuple[str, int]:
    """The export filter and the import limit for a neighbour."""
    if router.role is Role.NODE:
        return "to_tor", router.limits.fabric
    if router.role is Role.SPINE:
        return "to_fabric", router.limits.fabric
    if router.is_internal(neighbour):
        return "to_node", router.limits.node
    return "to_spine", router.limits.fabric
