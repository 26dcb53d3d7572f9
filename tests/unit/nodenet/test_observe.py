"""A reading of a host: equal to another while nothing that coil looks at has changed."""

from __future__ import annotations

import sys

import pytest

from coil.lab.host import host
from coil.lab.wait import until

READ = """
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.observe import read
from coil.nodenet.plan import Tables

print(read(NetlinkSocket(), Tables()).digest().hex())
"""
ROUTE = "10.9.0.1 dev v0 table 116"


@pytest.fixture
def there():
    with host("coil-read") as made:
        made.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for link in ("lo", "v0", "v1"):
            made.run("ip", "link", "set", link, "up")
        yield made


def digest(at):
    return at.run(sys.executable, "-c", READ).stdout


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("ip link set v0 alias x", "ip link set v0 alias "),
        ("ip link set v0 address ee:ee:ee:ee:ee:ee", "ip link set v0 address 02:00:00:00:00:01"),
        ("ip link set v0 name v9", "ip link set v9 name v0"),
        ("ip address add 169.254.1.1/32 dev v0", "ip address delete 169.254.1.1/32 dev v0"),
        (f"ip route add {ROUTE}", f"ip route delete {ROUTE}"),
        (f"ip route replace {ROUTE} proto bird", f"ip route delete {ROUTE}"),
        ("ip route add unreachable 10.9.0.0/28 table 116", "ip route flush table 116"),
        ("ip -6 route add fd00::1 dev v0 table 116", "ip -6 route flush table 116"),
        ("ip route add 10.9.0.0/28 dev lo proto 30 table 119", "ip route flush table 119"),
        ("ip rule add table 116 priority 2000", "ip rule delete priority 2000"),
        ("ip -6 rule add table 116 priority 2000", "ip -6 rule delete priority 2000"),
        ("sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.ip_forward=0"),
        (
            "sysctl -qw net.ipv6.conf.lo.disable_ipv6=1",
            "sysctl -qw net.ipv6.conf.lo.disable_ipv6=0",
        ),
    ],
    ids=lambda words: words,
)
def test_what_coil_looks_at_makes_a_reading_another(there, change, back):
    there.run("ip", "link", "set", "v0", "address", "02:00:00:00:00:01")
    there.run("ip", "route", "add", "10.8.0.1", "dev", "v0", "table", "116")
    there.run("ip", "-6", "route", "add", "fd00::8", "dev", "v0", "table", "116")
    before = digest(there)
    there.run(*change.split(" "))
    changed = digest(there)
    assert changed != before
    there.run(*back.split(" "))
    assert digest(there) != changed


def test_what_is_as_before_reads_as_before(there):
    until(lambda: settled(there), "the addresses have settled")
    before = digest(there)
    there.run("ip", "link", "set", "v0", "alias", "x")
    assert digest(there) != before
    there.run("ip", "link", "set", "v0", "alias", "")
    assert digest(there) == before


def settled(at):
    """Both ends carry, and have the addresses that the kernel makes of itself then."""
    ends = [link for link in at.ip("-6", "addr", "show") if link["ifname"] in {"v0", "v1"}]
    up = [link for link in ends if link["operstate"] == "UP" and link["addr_info"]]
    return len(up) == 2 and "tentative" not in str(up)


def test_traffic_and_time_change_no_reading(there):
    lease = ("valid_lft", "1000", "preferred_lft", "1000")
    there.run("ip", "address", "add", "192.0.2.1/24", "dev", "v0", *lease)
    until(lambda: settled(there), "the addresses have settled")
    before, counted, left = digest(there), sent(there), lifetime(there)
    there.run("ping", "-c1", "-W1", "192.0.2.9", check=False)
    until(lambda: sent(there) > counted and lifetime(there) < left, "time has passed")
    assert digest(there) == before


def test_times_that_the_kernel_draws_at_random_change_no_reading(there):
    until(lambda: settled(there), "the addresses have settled")
    before = digest(there)
    # As it does of itself every five minutes, for all links: from half to one and a half of this.
    there.run("sysctl", "-qw", "net.ipv6.neigh.v0.base_reachable_time_ms=600000")
    assert digest(there) == before


def sent(at):
    return at.ip("-s", "link", "show", "v0")[0]["stats64"]["tx"]["packets"]


def lifetime(at):
    (v0,) = at.ip("-4", "addr", "show", "v0")
    return v0["addr_info"][0]["valid_life_time"]
