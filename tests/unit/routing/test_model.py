from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from coil.domain.errors import ConfigError
from coil.routing.model import Bfd, Neighbour, Role, Router, Timers, session_names


def router(role=Role.TOR, loopbacks=("10.0.0.1",), neighbours=(), asn=65001, **more):
    return Router(
        "r1",
        role,
        asn,
        tuple(map(ip_address, loopbacks)),
        tuple(Neighbour(ip_address(address), number) for address, number in neighbours),
        **more,
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"asn": 0}, "AS number 0 must be 1 to 4294967295"),
        ({"neighbours": [("10.1.0.1", 2**32)]}, "AS number 4294967296"),
        ({"export_table": 0}, "export table 0"),
        ({"protocol": 256}, "route protocol 256"),
        ({"loopbacks": ["127.0.0.1"]}, "loopback 127.0.0.1"),
        ({"loopbacks": ["10.0.0.1", "10.0.0.2"]}, "2 IPv4 loopbacks"),
        ({"loopbacks": ["fd00::1"]}, "give a router id"),
        ({"loopbacks": []}, "give a router id"),
        ({"neighbours": [("10.1.0.1", 1), ("10.1.0.1", 2)]}, "named 2 times"),
        ({"role": Role.NODE, "neighbours": [("10.1.0.1", 65002)]}, "shares the AS of its rack"),
        ({"role": Role.NODE, "aggregates": "/x"}, "only a ToR"),
        ({"role": Role.TOR, "aggregates": 'x"; quit;'}, "cannot stand"),
        ({"timers": Timers(hold=2)}, "hold time of 2 s"),
        ({"timers": Timers(hold=5, keepalive=5)}, "hold time of 5 s"),
        ({"timers": Timers(hold=65_536)}, "hold time of 65536 s must be 3 to 65535 s"),
        ({"bfd": Bfd(multiplier=1)}, "BFD"),
        ({"bfd": Bfd(interval_ms=60_001)}, "interval of 10 to 60000 ms"),
        ({"router_id": IPv4Address(0)}, "router id 0.0.0.0"),
        ({"neighbours": [("fe80::1", 1)]}, "fe80::1 is a link-local address"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(wrong, said):
    with pytest.raises(ConfigError, match=said):
        router(**wrong)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "0.0.0.5", "224.0.0.1", "240.0.0.1", "255.255.255.255",
     "::", "::1", "ff02::1"],
)  # fmt: skip
def test_an_address_that_no_other_machine_has_is_neither_loopback_nor_neighbour(address):
    with pytest.raises(ConfigError, match="loopback"):
        router(loopbacks=[address], router_id=IPv4Address("1.2.3.4"))
    with pytest.raises(ConfigError, match="another router"):
        router(neighbours=[(address, 1)])


def test_a_router_is_not_its_own_neighbour():
    with pytest.raises(ConfigError, match="another router"):
        router(neighbours=[("10.0.0.1", 1)])


def test_the_router_id_is_the_loopback_unless_it_is_given():
    assert router().id == IPv4Address("10.0.0.1")
    given = router(loopbacks=["fd00::1"], router_id=IPv4Address("1.2.3.4"))
    assert given.id == IPv4Address("1.2.3.4")
    assert given.find_loopback(6) == IPv6Address("fd00::1")


def test_families_are_those_of_loopbacks_and_neighbours():
    assert router().families() == (4,)
    assert router(neighbours=[("fd00::2", 1)]).families() == (4, 6)


def test_sessions_have_names_that_every_daemon_takes():
    many = [
        Neighbour(ip_address("10.1.0.1"), 1, "tor-1.rack"),
        Neighbour(ip_address("fd00::1"), 1, "tor-1.rack"),
        Neighbour(ip_address("10.1.0.3"), 1, "tor 1 rack"),
        Neighbour(ip_address("fd00::2"), 1),
        Neighbour(ip_address("10.1.0.5"), 1, "x" * 63),
        Neighbour(ip_address("10.1.0.7"), 1),
        Neighbour(ip_address("10.1.0.9"), 1, "10_1_0_7"),
    ]
    names = list(session_names(many).values())
    assert names[:4] == ["tor_1_rack_v4", "tor_1_rack_v6", "tor_1_rack_v4_2", "fd00__2_v6"]
    assert all(name.isidentifier() and len(name) <= 64 for name in names)


@pytest.mark.parametrize("name", ["", "a b", 'x"; quit;', "a\nb", "-x", "x" * 64])
def test_a_name_can_only_be_a_name(name):
    """It ends in a configuration that a program with all rights reads."""
    with pytest.raises(ConfigError, match="of a router must be"):
        Router(name, Role.TOR, 1, (ip_address("10.0.0.1"),), ())
    named = Neighbour(ip_address("10.1.0.1"), 1, name or " ")
    with pytest.raises(ConfigError, match="of a router must be"):
        Router("x", Role.TOR, 1, (ip_address("10.0.0.1"),), (named,))
