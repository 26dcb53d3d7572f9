"""Which routes the kernel should have of what gobgpd knows."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from coil.gobgp.bridge import want_ways
from coil.nodenet.ways import Ways
from coil.speakers.gobgp import Known

A, B, C6 = (ip_address(text) for text in ("10.9.0.1", "10.9.0.3", "fd00:9::1"))
LO4, LO6 = ip_address("10.0.0.1"), ip_address("fd00::1")
FAR, FAR6, OWN = (ip_network(text) for text in ("10.64.0.0/27", "fd00:64::/123", "10.64.1.0/27"))


def known(*gateways):
    return Known(gateways=frozenset(gateways))


def test_all_equal_ways_are_used_with_the_loopback_of_the_family_as_source():
    wanted = want_ways({FAR: known(A, B), FAR6: known(C6)}, {A, B, C6}, [LO4, LO6])
    assert wanted == {FAR: Ways(frozenset({A, B}), LO4), FAR6: Ways(frozenset({C6}), LO6)}


def test_a_way_over_a_link_that_is_down_is_left_out_and_a_route_without_any_is_none():
    wanted = want_ways({FAR: known(A, B), FAR6: known(C6)}, {B}, [LO4])
    assert wanted == {FAR: Ways(frozenset({B}), LO4)}


def test_what_is_here_needs_no_route():
    assert want_ways({OWN: Known(ours=True, local=True)}, {A}, [LO4]) == {}


def test_without_a_loopback_the_kernel_chooses_the_source():
    assert want_ways({FAR6: known(C6)}, {C6}, [LO4]) == {FAR6: Ways(frozenset({C6}))}
