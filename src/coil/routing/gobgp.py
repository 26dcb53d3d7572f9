"""A configuration for gobgpd (https://github.com/osrg/gobgp, docs/sources), in TOML.

GoBGP neither reads nor writes kernel routes: coil-gobgp gives it this machine's loopbacks and
blocks, and the kernel the ways that GoBGP finds. What its manual has for that, zebra of FRR, does
not know the export table (adr/0014).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coil.domain.errors import ConfigError
from coil.routing.model import NOT_FABRIC, Neighbour, Role, Router

API = "127.0.0.1:50051"
"""Where gobgpd is asked and told: its own port, of this machine only."""
_FAMILY = {4: "ipv4-unicast", 6: "ipv6-unicast"}


def gobgp_config(router: Router) -> str:
    """The whole gobgpd.toml. Raises ConfigError for what GoBGP cannot do."""
    if router.aggregates:
        raise ConfigError("aggregates are written for BIRD only; use router-config bird")
    sections = (_head(router), _global(router), _sets(router), _policies(router), _sessions(router))
    return "\n".join("".join(line + "\n" for line in section) for section in sections)


def _head(router: Router) -> Iterator[str]:
    yield f"# gobgpd on {router.role} {router.name}, AS {router.asn}. Written by coilctl"
    yield "# router-config. Check a change with: gobgpd -d -f FILE. Load it with: kill -HUP."
    yield f"# Its API has no passwords: run gobgpd with --api-hosts {API}."
    yield "#"
    yield "# GoBGP reads and writes no kernel routes: run coil-gobgp beside it, which"
    if router.role is Role.NODE:
        yield "# - has it announce the addresses of lo, and the blocks that this node owns: the"
        yield f"#   routes of kernel table {router.export_table} with protocol {router.protocol};"
    else:
        yield "# - has it announce the addresses of lo;"
    yield "# - puts what it has learnt into the main table, with the loopback as source."
    yield "#"
    if router.bfd:
        yield "# This is for GoBGP 4.8 and later. GoBGP 3 has no BFD, and does not start with it."
    else:
        yield "# This is for GoBGP 3 (Debian 12 has 3.10) and later, without BFD: a neighbour that"
        yield f"# falls silent is lost after the hold time of {router.timers.hold} s (--hold, as"
        yield "# short as you can bear). A link that goes down is out of use at once: coil-gobgp"
        yield "# sees that. GoBGP 4.8 and later have BFD: ask for it by --bfd."


def _global(router: Router) -> Iterator[str]:
    yield "[global.config]"
    yield f"  as = {router.asn}"
    yield f'  router-id = "{router.id}"'
    yield "# All equal ways to a destination are used (ECMP), also by spines of different AS. For"
    yield "# flows to be spread by port too, set the sysctls net.ipv4.fib_multipath_hash_policy and"
    yield "# net.ipv6.fib_multipath_hash_policy to 1."
    yield "[global.use-multiple-paths.config]"
    yield "  enabled = true"
    yield "[global.apply-policy.config]"
    yield '  import-policy-list = ["from-fabric"]'
    yield '  default-import-policy = "accept-route"'
    yield '  export-policy-list = ["to-fabric"]'
    yield '  default-export-policy = "reject-route"'


def _sets(router: Router) -> Iterator[str]:
    for version in router.families():
        yield "# What may not be in the fabric: a default route never is."
        patterns = ((n, f"{n.rpartition('/')[2]}..{longest}") for n, longest in NOT_FABRIC[version])
        yield from _prefix_set(f"not-fabric-{version}", patterns)
        own = [(str(n), f"{n.prefixlen}..{n.prefixlen}") for n in router.loopback_networks(version)]
        if own:
            yield "# This router's own loopback: it believes nobody who announces it."
            yield from _prefix_set(f"own-{version}", own)
    yield from _neighbour_set("inside", filter(router.is_internal, router.neighbours))
    outside = (n for n in router.neighbours if not router.is_internal(n))
    yield from _neighbour_set("outside", outside)


def _prefix_set(name: str, prefixes: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "[[defined-sets.prefix-sets]]"
    yield f'  prefix-set-name = "{name}"'
    for network, lengths in prefixes:
        yield "  [[defined-sets.prefix-sets.prefix-list]]"
        yield f'    ip-prefix = "{network}"'
        yield f'    masklength-range = "{lengths}"'


def _neighbour_set(name: str, neighbours: Iterable[Neighbour]) -> Iterator[str]:
    listed = ", ".join(f'"{n.address}"' for n in neighbours)
    if listed:
        yield "[[defined-sets.neighbor-sets]]"
        yield f'  neighbor-set-name = "{name}"'
        yield f"  neighbor-info-list = [{listed}]"


def _policies(router: Router) -> Iterator[str]:
    yield "[[policy-definitions]]"
    yield '  name = "from-fabric"'
    for version in router.families():
        yield from _statement("reject-route", prefix_set=f"not-fabric-{version}")
        for kind in ("internal", "external") if router.find_loopback(version) else ():
            yield from _statement("reject-route", prefix_set=f"own-{version}", route_type=kind)
    yield "[[policy-definitions]]"
    yield '  name = "to-fabric"'
    for version in router.families():
        yield from _statement("reject-route", prefix_set=f"not-fabric-{version}")
    if any(not router.is_internal(n) for n in router.neighbours):
        yield from _to_outside(router)
    if any(router.is_internal(n) for n in router.neighbours):
        yield from _to_inside(router)


def _to_outside(router: Router) -> Iterator[str]:
    kinds = ["local", "internal"]
    if router.role is Role.TOR:
        yield "  # To spines: of this rack only. A ToR is never a way from one spine to another."
    else:
        kinds.append("external")
    for kind in kinds:
        yield from _statement("accept-route", neighbour_set="outside", route_type=kind)


def _to_inside(router: Router) -> Iterator[str]:
    if router.role is Role.NODE:
        yield "  # To ToRs: what is this node's own. It is never a way to others."
        yield from _statement("accept-route", neighbour_set="inside", route_type="local")
    else:
        yield "  # To nodes: all, by us."
        yield from _statement("accept-route", neighbour_set="inside", next_hop_self=True)


def _statement(
    verdict: str,
    *,
    prefix_set: str = "",
    neighbour_set: str = "",
    route_type: str = "",
    next_hop_self: bool = False,
) -> Iterator[str]:
    yield "  [[policy-definitions.statements]]"
    if prefix_set:
        yield "    [policy-definitions.statements.conditions.match-prefix-set]"
        yield f'      prefix-set = "{prefix_set}"'
    if neighbour_set:
        yield "    [policy-definitions.statements.conditions.match-neighbor-set]"
        yield f'      neighbor-set = "{neighbour_set}"'
    if route_type:
        yield "    [policy-definitions.statements.conditions.bgp-conditions]"
        yield f'      route-type = "{route_type}"'
    if next_hop_self:
        yield "    [policy-definitions.statements.actions.bgp-actions]"
        yield '      set-next-hop = "self"'
    yield "    [policy-definitions.statements.actions]"
    yield f'      route-disposition = "{verdict}"'


def _sessions(router: Router) -> Iterator[str]:
    yield "# Sessions. Times are short: a fabric wants to be there at once."
    for neighbour in router.neighbours:
        yield from _session(router, neighbour)


def _session(router: Router, neighbour: Neighbour) -> Iterator[str]:
    to_node = router.role is Role.TOR and router.is_internal(neighbour)
    yield "[[neighbors]]"
    yield "  [neighbors.config]"
    yield f'    neighbor-address = "{neighbour.address}"'
    yield f"    peer-as = {neighbour.asn}"
    if neighbour.name:
        yield f'    description = "{neighbour.name}"'
    yield "  [neighbors.timers.config]"
    yield f"    connect-retry = {router.timers.connect_retry}"
    yield f"    hold-time = {router.timers.hold}"
    yield f"    keepalive-interval = {router.timers.keepalive}"
    yield "    # Also after a reset, by BFD or by hand, when GoBGP would wait for 30 s."
    yield f"    idle-hold-time-after-reset = {router.timers.connect_retry}"
    if router.bfd:
        microseconds = router.bfd.interval_ms * 1000
        yield "  # A silent link is lost after multiplier x interval (in microseconds)."
        yield "  [neighbors.bfd.config]"
        yield "    enabled = true"
        yield f"    desired-minimum-tx-interval = {microseconds}"
        yield f"    required-minimum-receive = {microseconds}"
        yield f"    detection-multiplier = {router.bfd.multiplier}"
    if to_node:
        yield "  # This node hears of the others of the rack by us."
        yield "  [neighbors.route-reflector.config]"
        yield "    route-reflector-client = true"
        yield f'    route-reflector-cluster-id = "{router.id}"'
    yield "  [[neighbors.afi-safis]]"
    yield "    [neighbors.afi-safis.config]"
    yield f'      afi-safi-name = "{_FAMILY[neighbour.version]}"'
    yield "    # More routes than this end the session, until: gobgp neighbor ADDRESS enable."
    yield "    [neighbors.afi-safis.prefix-limit.config]"
    yield f"      max-prefixes = {router.limits.node if to_node else router.limits.fabric}"
