"""What is wrong between store and nodes is found, and nothing that is only on its way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coil.domain.audit import Auditor, FindingKind, find_all
from coil.domain.block import BlockClaim, BlockId
from coil.domain.names import NodeName, PoolName
from coil.domain.node import BlockReport, Holder, NodeRecord, NodeStatus
from coil.domain.pool import Pool, parse_subnet
from coil.domain.survey import Survey, Unreadable

POOL = Pool(PoolName("p"), (parse_subnet("10.0.0.0/24"),), 4)


def claim(index, node="a", pool="p"):
    return BlockClaim(BlockId(PoolName(pool), index), NodeName(node), 1)


def node(name, *indexes, seen=0, silent_on_blocks=False):
    blocks = tuple(BlockReport(BlockId(PoolName("p"), index), 1) for index in indexes)
    holder = Holder("m", "b", "p")
    record = NodeRecord(NodeName(name), holder, "1", None, (), seen, blocks)
    return NodeStatus(replace(record, blocks=None) if silent_on_blocks else record, alive=True)


def survey(*nodes, claims=(), **more):
    return Survey(pools=(POOL,), nodes=nodes, claims=tuple(claims), **more)


def kinds(findings):
    return sorted((finding.kind.value, finding.subject) for finding in findings)


@pytest.mark.parametrize(
    "sound",
    [
        Survey(),
        survey(),
        survey(node("a", 0, 1), node("b"), claims=[claim(0), claim(1)]),
        survey(node("a", silent_on_blocks=True), claims=[claim(0)]),
        survey(claims=[claim(0, "the only machine")]),
    ],
)
def test_what_is_in_order_gives_no_finding(sound):
    assert list(find_all(sound)) == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (survey(node("a"), claims=[claim(0)]), ("leak", "a p/0")),
        (survey(node("a", 0), node("b", 0), claims=[claim(0)]), ("conflict", "b p/0")),
        (survey(node("a", 0)), ("conflict", "a p/0")),
        (survey(node("a"), claims=[claim(0, "x"), claim(1, "x")]), ("orphan", "x")),
        (survey(node("a", 99), claims=[claim(99)]), ("outside", "p/99")),
        (survey(node("a", 0), claims=[claim(0)], hidden=(claim(0),)), ("hidden", "p/0")),
        (survey(stale=(claim(0),)), ("stale", "p/0")),
        (survey(unreadable=(Unreadable("/coil/x", "odd"),)), ("unreadable", "/coil/x")),
    ],
)
def test_what_is_wrong_is_named(wrong, found):
    assert kinds(find_all(wrong)) == [found]


def test_a_record_that_cannot_be_read_makes_nobody_an_orphan():
    unreadable = (Unreadable("/coil/nodes/x", "odd"),)
    wrong = survey(node("a"), claims=[claim(0, "x")], unreadable=unreadable)
    assert kinds(find_all(wrong)) == [("unreadable", "/coil/nodes/x")]


@pytest.mark.parametrize(("kind", "reports"), [(FindingKind.CONFLICT, 2), (FindingKind.LEAK, 3)])
def test_the_word_of_a_node_counts_after_it_repeated_it(kind, reports):
    auditor = Auditor()
    told = ("a", 0) if kind is FindingKind.CONFLICT else ("a",)
    owner = "b" if kind is FindingKind.CONFLICT else "a"

    def look(seen):
        nodes = node(*told, seen=seen), node("b", *([0] if owner == "b" else []))
        return auditor.confirmed(survey(*nodes, claims=[claim(0, owner)]))

    for seen in range(1, reports):
        assert look(seen) == []
        assert look(seen) == []  # the same report says nothing new
    assert kinds(look(reports)) == [(kind.value, "a p/0")]
    assert auditor.confirmed(survey(node("a", seen=9))) == []
    assert look(10) == []


def test_another_claim_on_the_block_is_another_matter():
    auditor = Auditor()
    for seen in range(2, 9):
        found = auditor.confirmed(
            survey(node("a", seen=seen), claims=[replace(claim(0), revision=seen)])
        )
        assert found == []


def test_what_the_store_shows_by_itself_is_told_at_once():
    found = Auditor().confirmed(survey(node("a"), claims=[claim(0, "x")]))
    assert kinds(found) == [("orphan", "x")]
