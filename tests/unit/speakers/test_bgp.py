"""Routes in BGP's bytes: the examples are of RFC 4271 and RFC 4760, written out."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.speakers import bgp

NETWORKS = st.one_of(
    st.builds(
        lambda address, bits: ip_network((address, bits), strict=False),
        st.ip_addresses(v=version),
        st.integers(0, 32 if version == 4 else 128),
    )
    for version in (4, 6)
)
ORIGIN, TWO_HOPS = b"\x40\x01\x01\x00", b"\x40\x02\x0a\x02\x02" + bytes([0, 0, 0, 1, 0, 0, 0, 2])
VIA = b"\x40\x03\x04\x0a\x00\x00\x01"


@given(NETWORKS)
def test_a_network_is_read_as_it_was_written(network):
    assert bgp.read_network(bgp.write_network(network), network.version) == network


@pytest.mark.parametrize(
    ("network", "data"),
    [("10.64.0.0/27", b"\x1b\x0a\x40\x00\x00"), ("10.0.0.0/8", b"\x08\x0a"), ("::/0", b"\x00")],
)
def test_a_network_takes_as_many_bytes_as_it_needs(network, data):
    assert bgp.write_network(ip_network(network)) == data


@given(NETWORKS, st.sampled_from([bgp.IGP, bgp.INCOMPLETE]))
def test_what_is_our_own_has_no_gateway(network, origin):
    found = bgp.read_attributes(bgp.write_own(network, origin))
    assert (found.origin, found.gateway, found.hops) == (origin, None, 0)


def test_attributes_of_a_route_are_read():
    found = bgp.read_attributes([ORIGIN, TWO_HOPS, VIA, b"\x80\x04\x04\x00\x00\x00\x05"])
    assert found == bgp.Attributes(bgp.IGP, 2, 5, None, ip_address("10.0.0.1"))


def test_a_set_of_ases_counts_once_and_long_attributes_are_read():
    a_set = bytes([1, 3]) + bytes(12)
    found = bgp.read_attributes([b"\x50\x02\x00" + bytes([len(a_set)]) + a_set])
    assert found.hops == 1


def test_of_two_next_hops_in_ipv6_the_global_one_is_taken():
    both = ip_address("fd00::1").packed + ip_address("fe80::1").packed
    found = bgp.read_attributes([b"\x80\x0e\x24\x00\x02\x01\x20" + both])
    assert found.gateway == ip_address("fd00::1")


@pytest.mark.parametrize(
    "better",
    [
        b"\x40\x05\x04\x00\x00\x00\x64",  # told within the AS
        b"\x80\x04\x04\x00\x00\x00\x01",  # another MED
    ],
)
def test_ways_that_differ_in_what_decides_are_not_equal(better):
    plain = bgp.read_attributes([ORIGIN, TWO_HOPS, VIA])
    assert bgp.read_attributes([ORIGIN, TWO_HOPS, VIA, better]).rank != plain.rank
