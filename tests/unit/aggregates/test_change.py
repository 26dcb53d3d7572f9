from __future__ import annotations

from ipaddress import IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from coil.aggregates.change import admit, alone, between

WHOLE, LEFT, RIGHT = (ip_network(n) for n in ("10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25"))


def test_a_new_aggregate_waits_until_it_is_settled():
    assert admit([WHOLE], [], []) == set()
    assert admit([WHOLE], [], [WHOLE]) == {WHOLE}
    assert admit([WHOLE], [WHOLE], []) == {WHOLE}


def test_what_lets_a_block_out_does_not_wait():
    assert admit([LEFT], [WHOLE], []) == {LEFT}
    assert admit([], [WHOLE], []) == set()


def test_while_a_larger_one_waits_the_smaller_stay():
    assert admit([WHOLE], [LEFT], []) == {LEFT}
    assert admit([WHOLE], [LEFT], [WHOLE]) == {WHOLE}


def test_on_the_way_both_are_announced_and_only_what_both_cover_is_hidden():
    down = between([WHOLE], [LEFT])
    assert (down.announced, down.covering) == ({WHOLE, LEFT}, {LEFT})
    up = between([LEFT, RIGHT], [WHOLE])
    assert (up.announced, up.covering) == ({WHOLE, LEFT, RIGHT}, {LEFT, RIGHT})
    apart = between([LEFT], [RIGHT])
    assert (apart.announced, apart.covering) == ({LEFT, RIGHT}, set())
    assert alone([LEFT]).covering == {LEFT}


@st.composite
def disjoint(draw):
    """Aggregates as there can be at one time: none inside another."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(24, 30))
        at = draw(st.integers(0, 2 ** (length - 24) - 1)) << (32 - length)
        new = IPv4Network((int(WHOLE.network_address) + at, length))
        if not any(new.overlaps(old) for old in found):
            found.append(new)
    return found


def covered(networks, address):
    return any(address in network for network in networks)


@given(disjoint(), disjoint(), st.data())
def test_nothing_is_announced_that_is_not_usable(usable, announced, data):
    settled = data.draw(st.sets(st.sampled_from(usable))) if usable else set()
    found = admit(usable, announced, settled)
    for address in WHOLE:
        if covered(found, address):
            assert covered(usable, address)
        if covered(usable, address) and covered(announced, address):
            assert covered(found, address)


@given(disjoint(), disjoint())
def test_every_block_has_a_route_at_each_moment(old, new):
    """A block is announced by itself unless it is hidden; hidden means covered before and after."""
    moment = between(old, new)
    for address in WHOLE:
        hidden = covered(moment.covering, address)
        assert hidden == (covered(old, address) and covered(new, address))
        if covered(old, address) or covered(new, address):
            assert covered(moment.announced, address)
