"""Nothing is taken for gone without evidence, and nothing when it is more likely us who are ill."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.gone import (
    Silence,
    Word,
    find_grace_fault,
    judge,
    own_addresses,
    words_of_answers,
)
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import Holder, NodeRecord, NodeStatus
from coil.domain.pool import Pool, parse_subnet


def record(name, rack=None, addresses=(), seen=0):
    found = tuple(map(ip_address, addresses))
    return NodeRecord(NodeName(name), Holder("m", "b", "p"), "1", rack, found, seen)


def status(name, *, alive=False, rack=None):
    return NodeStatus(record(name, RackName(rack) if rack else None), alive)


@st.composite
def clusters(draw):
    """Nodes in racks, some silent, and what witnesses say of these."""
    size = draw(st.integers(1, 40))
    racks = st.none() | st.sampled_from("abc")
    nodes = [
        status(f"n{number}", alive=draw(st.booleans()), rack=draw(racks)) for number in range(size)
    ]
    silent = [found.record for found in nodes if not found.alive]
    overdue = [each for each in silent if draw(st.booleans())]
    said = st.lists(st.sampled_from(list(Word)), max_size=2)
    words = {each.name: draw(said) for each in silent if draw(st.booleans())}
    return nodes, overdue, words


@given(cluster=clusters(), most=st.floats(0, 1))
def test_only_who_is_overdue_and_spoken_against_and_by_nobody_for_is_gone(cluster, most):
    nodes, overdue, words = cluster
    judgement = judge(nodes, overdue, words, most=most)
    for each in judgement.gone:
        assert each in overdue
        assert Word.AGAINST in words[each.name]
        assert Word.FOR not in words[each.name]
    names = {each.name for each in judgement.gone}
    assert names | judgement.kept.keys() == {each.name for each in overdue}
    assert not names & judgement.kept.keys()
    assert all(f"coilctl node release {name}" in why for name, why in judgement.kept.items())


@given(cluster=clusters(), most=st.floats(0, 1))
def test_never_more_at_once_than_allowed_and_never_a_rack_as_a_whole(cluster, most):
    nodes, overdue, words = cluster
    gone = {each.name for each in judge(nodes, overdue, words, most=most).gone}
    assert len(gone) <= max(1, most * len(nodes))
    racks = {found.record.rack for found in nodes} - {None}
    for rack in racks:
        members = {found.record.name for found in nodes if found.record.rack == rack}
        assert len(racks) == 1 or members - gone


def test_one_node_may_be_gone_in_any_cluster_and_ten_percent_of_a_large_one():
    for size, allowed in ((2, 1), (19, 1), (20, 2), (100, 10)):
        nodes = [status(f"n{number:03}", alive=number >= allowed) for number in range(size)]
        overdue = [found.record for found in nodes if not found.alive]
        words = {each.name: [Word.AGAINST] for each in overdue}
        assert len(judge(nodes, overdue, words, most=0.1).gone) == allowed
        nodes[allowed] = replace(nodes[allowed], alive=False)
        judgement = judge(nodes, overdue, words, most=0.1)
        assert not judgement.gone
        assert f"{allowed + 1} of {size} nodes" in judgement.kept["n000"]


def test_a_rack_of_one_is_a_rack_where_there_are_others():
    overdue = status("a", rack="r1")
    words = {NodeName("a"): [Word.AGAINST]}
    for others, is_gone in (("r1", True), (None, True), ("r2", False)):
        nodes = [overdue, *(status(name, alive=True, rack=others) for name in "bc")]
        judgement = judge(nodes, [overdue.record], words, most=0.1)
        assert bool(judgement.gone) is is_gone
        assert is_gone or "missing with all of rack r1" in judgement.kept["a"]


def test_who_is_silent_but_answers_is_not_missing():
    nodes = [status("a"), status("b"), status("c", alive=True)]
    overdue = [found.record for found in nodes[:2]]
    words = {NodeName("a"): [Word.AGAINST], NodeName("b"): [Word.FOR]}
    judgement = judge(nodes, overdue, words, most=0.1)
    assert judgement.gone == (nodes[0].record,)
    assert "is its coild down" in judgement.kept["b"]


# Silence


def test_a_node_is_silent_from_the_first_look_that_missed_it():
    silence = Silence(longest_gap=10)
    for now in range(0, 60, 5):
        silence.look(now, [status("a", alive=now < 20), status("b", alive=True)])
        assert bool(silence.longer_than(30, now)) == (now > 50)


@pytest.mark.parametrize("sign", ["alive", "rewritten", "forgotten", "a gap"])
def test_silence_begins_anew_after(sign):
    silence = Silence(longest_gap=10)
    for now in range(0, 41, 10):
        silence.look(now, [status("a")])
    assert silence.longer_than(30, 40)
    later = 50
    if sign == "alive":
        silence.look(later, [status("a", alive=True)])
    elif sign == "forgotten":
        silence.look(later, [])
    elif sign == "a gap":
        later = 51
    now_status = NodeStatus(record("a", seen=int(sign == "rewritten")), alive=False)
    silence.look(later, [now_status])
    assert not silence.longer_than(30, later)


@given(
    looks=st.lists(st.tuples(st.floats(0.1, 30), st.booleans()), min_size=1, max_size=30),
    grace=st.floats(1, 60),
)
def test_whoever_is_overdue_was_silent_in_every_look_of_the_grace_and_none_was_late(looks, grace):
    silence = Silence(longest_gap=10)
    now, history = 0.0, []
    for pause, alive in looks:
        now += pause
        history.append((now, pause, alive))
        silence.look(now, [status("a", alive=alive)])
        if silence.longer_than(grace, now):
            begin = max((at for at, _pause, lived in history if lived), default=-1.0)
            within = [(at, gap) for at, gap, _alive in history if at > begin]
            unbroken = [at for at, gap in within[1:] if gap > 10]
            start = max(unbroken, default=within[0][0])
            assert now - start > grace


# Who answers


def test_what_several_nodes_have_means_none_of_them():
    nodes = [record("a", addresses=["10.0.0.1", "172.17.0.1"]),
             record("b", addresses=["172.17.0.1", "172.17.0.1", "fd00::1"])]  # fmt: skip
    assert own_addresses(nodes) == {
        "a": (ip_address("10.0.0.1"),),
        "b": (ip_address("fd00::1"),),
    }


ADDRESSES = {
    "s4": ["10.0.0.1"], "s6": ["fd00::1"], "both": ["10.0.0.2", "fd00::2"], "none": [],
    "c1": ["10.1.0.1", "fd00:1::1"], "c2": ["10.1.0.2", "fd00:1::2"], "c3": ["10.1.0.3"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("answered", "words"),
    [
        ([], "NOTHING NOTHING NOTHING NOTHING"),
        (["10.1.0.1"], "NOTHING NOTHING NOTHING NOTHING"),  # one of three
        (["10.1.0.1", "10.1.0.2"], "AGAINST NOTHING AGAINST NOTHING"),
        (["10.1.0.1", "10.1.0.3", "fd00:1::1", "fd00:1::2"], "AGAINST AGAINST AGAINST NOTHING"),
        (["10.1.0.1", "10.1.0.2", "fd00::2"], "AGAINST NOTHING FOR NOTHING"),
        (["10.0.0.1"], "FOR NOTHING NOTHING NOTHING"),
    ],
)
def test_silence_says_something_only_where_most_who_live_are_heard(answered, words):
    addresses = {name: list(map(ip_address, own)) for name, own in ADDRESSES.items()}
    found = words_of_answers(
        ["s4", "s6", "both", "none"],
        ["c1", "c2", "c3"],
        addresses,
        {ip_address(address) for address in answered},
    )
    assert [found[name].name for name in ("s4", "s6", "both", "none")] == words.split()


def test_without_controls_silence_says_nothing():
    found = words_of_answers(["a"], [], {"a": [ip_address("10.0.0.1")]}, set())
    assert found == {"a": Word.NOTHING}


# Grace


@pytest.mark.parametrize(
    ("cool_down", "fits"), [(0, True), (299, True), (300, False), (400, False)]
)
def test_a_grace_is_longer_than_every_cool_down(cool_down, fits):
    pools = [
        Pool(PoolName("short"), (parse_subnet("10.0.0.0/24"),), cool_down=1),
        Pool(PoolName("p"), (parse_subnet("10.1.0.0/24"),), cool_down=cool_down),
    ]
    fault = find_grace_fault(300, pools)
    assert (fault is None) is fits
    assert fits or "pool p" in fault
    assert find_grace_fault(300, []) is None
