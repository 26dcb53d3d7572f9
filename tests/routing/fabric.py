"""A small fabric for tests: routers are hosts, links are veth pairs with a /31 and a /127."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from coil.lab.bird import Bird
from coil.lab.frr import Frr
from coil.lab.gobgp import GobgpRouter
from coil.lab.host import host as new_host
from coil.lab.host import run
from coil.lab.wait import until
from coil.routing.model import Neighbour, Role, Router, Timers

LINKS4 = IPv4Network("172.30.0.0/16")
LINKS6 = IPv6Network("fd00:30::/64")
PATIENT = Timers(hold=90, keepalive=30)
"""So that what is noticed sooner is noticed by BFD."""


class Member:
    """A router to be: its host, loopbacks, and the neighbours its links made."""

    def __init__(self, fabric, name, role, asn, host, number):
        self.fabric = fabric
        self.name, self.role, self.asn, self.host = name, role, asn, host
        self.loopbacks = (IPv4Address(f"10.0.0.{number}"), IPv6Address(f"fd00::{number}"))
        self.neighbours = []
        self.daemon = None

    def router(self, families=(4, 6), **more):
        loopbacks = tuple(a for a in self.loopbacks if a.version in families)
        neighbours = tuple(n for n in self.neighbours if n.version in families)
        return Router(self.name, self.role, self.asn, loopbacks, neighbours, **more)

    def hops(self, destination, family=None):
        """The next hops the kernel has for a route, or None when it has no such route."""
        family = family or ("-6" if ":" in destination else "-4")
        found = self.host.ip(family, "route", "show", destination)
        if not found:
            return None
        (route,) = found
        hops = route.get("nexthops", [route])
        return sorted(hop.get("dev", route.get("type")) for hop in hops)

    def source(self, destination):
        family = "-6" if ":" in destination else "-4"
        return self.host.ip(family, "route", "show", destination)[0].get("prefsrc")

    def destinations(self, family):
        """What it has learnt."""
        routes = self.host.ip(family, "route", "show")
        return {r["dst"] for r in routes if r["protocol"] in ("bird", "bgp")}

    def own(self, *networks, table="119"):
        """What coild does for a claimed block."""
        for network in networks:
            self.host.run("ip", "route", "add", network, "dev", "lo", "table", table, "proto", "30")

    def disown(self, *networks, table="119"):
        for network in networks:
            family = "-6" if ":" in network else "-4"
            self.host.run("ip", family, "route", "del", network, "table", table)

    def silence(self, ifname):
        """Let nothing through a link any more; it stays up, so only silence tells.

        BFD must have come up (RFC 5882, 4.1: until then it tells nobody anything).
        """
        for here, there in ((self, ifname), (self.fabric.members[ifname], self.name)):
            until(lambda h=here, t=there: h.watches(t), f"BFD from {here.name} to {there}", 30)
        self._filter("-I", ifname)

    def watches(self, ifname):
        """Whether BFD, where its daemon speaks it, is up to a neighbour in every family."""
        neighbours = {str(n.address) for n in self.neighbours if n.name == ifname}
        if isinstance(self.daemon, Bird):
            rows = self.daemon.ctl("show", "bfd", "sessions", check=False).stdout.splitlines()
            up = {row.split()[0] for row in rows if row.split()[2:3] == ["Up"]}
        elif isinstance(self.daemon, Frr):
            peers = json.loads(self.daemon.vtysh("-c", "show bfd peers json").stdout)
            up = {peer["peer"] for peer in peers if peer["status"] == "up"}
        else:
            return True
        return self.daemon.router.bfd is None or neighbours <= up

    def unsilence(self, ifname):
        self._filter("-D", ifname)

    def _filter(self, verb, ifname):
        for program in ("iptables", "ip6tables"):
            for chain, side in (("INPUT", "-i"), ("OUTPUT", "-o"), ("FORWARD", "-i")):
                self.host.run(program, "-w", verb, chain, side, ifname, "-j", "DROP")

    def reaches(self, address):
        return self.host.run("ping", "-c1", "-W1", address, check=False).returncode == 0


class Fabric:
    def __init__(self, stack, directory):
        self._stack = stack
        self._directory = directory
        self._links = 0
        self.members = {}

    def add(self, name, role, asn, host=None):
        host = host or self._stack.enter_context(new_host(f"coil-{name}"))
        member = Member(self, name, Role(role), asn, host, len(self.members) + 1)
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            host.run("sysctl", "-qw", f"net/{key}=1")
        for key in ("ipv4/fib_multipath_hash_policy", "ipv6/fib_multipath_hash_policy"):
            host.run("sysctl", "-qw", f"net/{key}=1")
        # Else a link that was down and is up again has lost its IPv6 addresses.
        host.run("sysctl", "-qw", "net/ipv6/conf/all/keep_addr_on_down=1")
        for address in member.loopbacks:
            host.run("ip", "addr", "add", str(address), "dev", "lo")
        self.members[name] = member
        return member

    def link(self, one, other):
        """Connect two; each end is called after the other router."""
        ends = self.members[one], self.members[other]
        a, b = ends
        run(["ip", "link", "add", b.name, "netns", a.host.name, "type", "veth",
             "peer", a.name, "netns", b.host.name])  # fmt: skip
        first = 2 * self._links
        self._links += 1
        for place, (here, there) in enumerate((ends, ends[::-1])):
            here.host.run("ip", "addr", "add", f"{LINKS4[first + place]}/31", "dev", there.name)
            here.host.run(
                "ip", "addr", "add", f"{LINKS6[first + place]}/127", "dev", there.name, "nodad"
            )
            here.host.run("ip", "link", "set", there.name, "up")
            for links in (LINKS4, LINKS6):
                address = links[first + 1 - place]
                here.neighbours.append(Neighbour(address, there.asn, there.name))

    def bird(self, name, **more):
        self._run(Bird, name, more)

    def frr(self, name, **more):
        self._run(Frr, name, more)

    def gobgp(self, name, program="gobgpd", **more):
        self._run(GobgpRouter, name, more, program=program)

    def _run(self, kind, name, more, **options):
        member = self.members[name]
        directory = self._directory / name
        member.daemon = kind(member.host, member.router(**more), directory, **options)
        self._stack.callback(member.daemon.stop)
        member.daemon.start()

    def show(self):
        for member in self.members.values():
            print(f"--- {member.name}")
            if isinstance(member.daemon, Bird):
                print(member.daemon.log.read_text()[-2000:])
                print(member.daemon.ctl("show", "protocols", check=False).stdout)
            if isinstance(member.daemon, Frr):
                print(member.daemon.read_log("bgpd")[-2000:])
                print(member.daemon.vtysh("-c", "show bgp summary", check=False).stdout)
            if isinstance(member.daemon, GobgpRouter):
                print(member.daemon.read_log("gobgpd")[-2000:])
                print(member.daemon.read_log("coil-gobgp")[-4000:])
            print(json.dumps(member.host.ip("route", "show")))


def rack_and_spine(stack, directory):
    """A spine, two ToRs of one rack, two nodes at both."""
    fabric = Fabric(stack, directory)
    fabric.add("spine", "spine", 65000)
    for tor in ("tor1", "tor2"):
        fabric.add(tor, "tor", 65001)
        fabric.link(tor, "spine")
    for node in ("node1", "node2"):
        fabric.add(node, "node", 65001)
        for tor in ("tor1", "tor2"):
            fabric.link(node, tor)
    return fabric
