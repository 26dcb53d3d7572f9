"""Pools and nodes as text: what is written reads the same, and nothing else gets through."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.codec import node_from_json, node_to_json, pool_from_json, pool_to_json
from coil.domain.errors import CoilError
from coil.domain.node import NodeRecord
from coil.domain.pool import Pool
from unit.domain.strategies import pools, records

GOOD = {"subnets": ["10.0.0.0/24"], "block_size": 5, "cool_down": 130, "cordoned": False}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(GOOD)), inner),
)


@given(pool=pools())
def test_a_pool_that_was_written_reads_the_same(pool: Pool) -> None:
    assert pool_from_json(pool.name, pool_to_json(pool)) == pool


@given(name=st.sampled_from(["p", "P", ""]), value=JSON)
def test_any_json_is_a_pool_or_is_refused(name: str, value: object) -> None:
    with contextlib.suppress(ValueError, CoilError):
        assert pool_from_json(name, json.dumps(value)).name == name == "p"


@given(text=st.text())
def test_any_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises((ValueError, CoilError)):
        pool_from_json("p", text)


@pytest.mark.parametrize(
    "change",
    [
        {"subnets": "10.0.0.0/24"},
        {"subnets": [5]},
        {"subnets": []},
        {"subnets": None},
        {"block_size": "5"},
        {"block_size": 5.0},
        {"block_size": 17},
        {"cool_down": None},
        {"cordoned": 0},
        {"cordoned": "false"},
    ],
)
def test_a_field_of_a_wrong_type_is_refused(change: dict[str, object]) -> None:
    assert pool_from_json("p", json.dumps(GOOD))
    with pytest.raises((ValueError, CoilError)):
        pool_from_json("p", json.dumps(GOOD | change))


@pytest.mark.parametrize("field", sorted(GOOD))
def test_a_missing_field_is_refused(field: str) -> None:
    rest = {key: value for key, value in GOOD.items() if key != field}
    with pytest.raises(ValueError, match="missing"):
        pool_from_json("p", json.dumps(rest))


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="deep"):
        pool_from_json("p", "[" * 100_000)


@given(record=records())
def test_a_node_that_was_written_reads_the_same(record: NodeRecord) -> None:
    assert node_from_json(record.name, node_to_json(record)) == record


@given(record=records())
def test_a_record_that_names_no_blocks_is_one_of_a_node_that_does_not_say(record) -> None:
    fields = json.loads(node_to_json(record))
    del fields["blocks"]
    assert node_from_json(record.name, json.dumps(fields)).blocks is None


@given(record=records(), blocks=JSON)
def test_any_blocks_are_reports_or_are_refused(record: NodeRecord, blocks: object) -> None:
    fields = json.loads(node_to_json(record)) | {"blocks": blocks}
    with contextlib.suppress(ValueError, CoilError):
        found = node_from_json(record.name, json.dumps(fields)).blocks
        listed = found and [[each.id.pool, each.id.index, each.used] for each in found]
        assert listed == blocks or not (found or blocks)
