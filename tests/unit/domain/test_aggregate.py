from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from coil.domain.aggregate import usable_aggregates
from coil.domain.names import PoolName, RackName
from coil.domain.pool import Pool, parse_subnet
from coil.domain.ranges import aggregates, range_of

HOME, AWAY = RackName("home"), RackName("away")
POOL = Pool(PoolName("p"), (parse_subnet("10.0.0.0/16,fd00::/112"),), 4)
"""256 ranges of 16 blocks of 16 addresses."""


def networks(*indexes):
    return {network for index in indexes for network in POOL.block(index).networks}


def usable(owners, claims, reached):
    return usable_aggregates(POOL, owners, HOME, claims=claims, reached=reached)


def shown(found):
    return sorted(map(str, found))


def test_in_peace_a_rack_is_one_prefix_a_family():
    claims = dict.fromkeys(range(5), HOME)
    assert shown(usable({0: HOME}, claims, networks(*claims))) == ["10.0.0.0/24", "fd00::/120"]
    claims |= dict.fromkeys(range(16, 20), HOME)
    owners = {0: HOME, 16: HOME, 32: AWAY}
    assert shown(usable(owners, claims, networks(*claims))) == ["10.0.0.0/23", "fd00::/119"]


def test_a_lost_block_takes_the_prefixes_around_it_away():
    claims = dict.fromkeys(range(16), HOME)
    found = usable({0: HOME}, claims, networks(*range(16)) - networks(5))
    assert [str(n) for n in found if n.version == 4] == [
        "10.0.0.0/26",
        "10.0.0.96/27",
        "10.0.0.128/25",
    ]


def test_a_family_that_is_lost_does_not_harm_the_other():
    claims = dict.fromkeys(range(4), HOME)
    lost = {ip_network("fd00::10/124")}
    found = usable({0: HOME}, claims, networks(*claims) - lost)
    assert shown(found) == ["10.0.0.0/24", "fd00::20/123"]


def test_a_block_of_another_rack_is_never_covered_even_if_it_is_reached():
    claims = {0: HOME, 1: HOME, 2: AWAY, 3: None, 8: HOME, 9: HOME}
    found = usable({0: HOME}, claims, networks(*claims))
    assert [str(n) for n in found if n.version == 4] == ["10.0.0.0/27", "10.0.0.128/25"]


def test_a_single_block_is_announced_as_itself():
    assert usable({0: HOME}, {3: HOME}, networks(3)) == []
    assert usable({0: HOME}, {}, set()) == []


def test_blocks_outside_of_the_racks_ranges_are_announced_as_themselves():
    claims = {0: HOME, 1: HOME, 40: HOME, 41: HOME}
    found = usable({0: HOME, 32: AWAY}, claims, networks(*claims))
    assert shown(found) == ["10.0.0.0/24", "fd00::/120"]


def test_claims_of_a_subnet_that_is_not_known_yet_change_nothing():
    claims = {0: HOME, 1: HOME, POOL.block_count: HOME}
    assert shown(usable({0: HOME}, claims, networks(0, 1))) == ["10.0.0.0/24", "fd00::/120"]


def test_a_range_that_cannot_be_is_none():
    claims = dict.fromkeys(range(32), HOME)
    for wrong in (20, POOL.block_count):
        found = usable({0: HOME, wrong: HOME}, claims, networks(*claims))
        assert shown(found) == ["10.0.0.0/24", "fd00::/120"]


INDEXES = st.integers(0, 127)
RACKS = st.sampled_from([HOME, HOME, HOME, AWAY, None])


@st.composite
def situations(draw):
    owners = draw(
        st.dictionaries(
            st.integers(0, 7).map(lambda slot: slot * 16), st.sampled_from([HOME, HOME, AWAY])
        )
    )
    claims = draw(st.dictionaries(INDEXES, RACKS, max_size=60))
    lost = draw(st.sets(st.sampled_from(sorted(claims)), max_size=5)) if claims else set()
    return owners, claims, networks(*claims) - networks(*lost)


@given(situations())
def test_what_an_aggregate_covers_is_this_racks_and_reached(situation):
    owners, claims, reached = situation
    for prefix in usable(owners, claims, reached):
        inside = [i for i in claims if any(covers(prefix, n) for n in networks(i))]
        assert len(inside) >= 2
        for index in inside:
            assert claims[index] == HOME
            assert owners[range_of(POOL, index).first] == HOME
            assert all(n in reached for n in networks(index) if n.version == prefix.version)


@given(situations())
def test_no_aggregate_lies_in_another_or_could_be_twice_as_large(situation):
    owners, claims, reached = situation
    found = usable(owners, claims, reached)
    tops = aggregates(POOL, [first for first, owner in owners.items() if owner == HOME])
    for prefix in found:
        assert sum(covers(other, prefix) for other in found) == 1
        if prefix in tops:
            continue
        parent = prefix.supernet()
        bad = [
            n
            for index, owner in claims.items()
            for n in networks(index)
            if covers(parent, n) and not (owner == HOME and n in reached)
        ]
        assert bad


@given(situations())
def test_when_all_is_well_the_ranges_themselves_are_announced(situation):
    owners, claims, _ = situation
    tops = aggregates(POOL, [first for first, owner in owners.items() if owner == HOME])
    claims = dict.fromkeys(claims, HOME)
    found = usable(owners, claims, networks(*claims))
    many = [top for top in tops if sum(covers(top, n) for n in networks(*claims)) >= 2]
    assert found == many


def covers(prefix, network):
    return prefix.version == network.version and network.subnet_of(prefix)
