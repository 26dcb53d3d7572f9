"""Attributes as the kernel lays them out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coil.nodenet.netlink import attribute, attributes, find_attribute, without_attributes

ATTRIBUTES = st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40))


@given(st.binary(max_size=20), ATTRIBUTES, st.integers(0, 0x3FFF))
def test_what_was_encoded_is_found(before, encoded, other):
    data = before + b"".join(attribute(kind, value) for kind, value in encoded.items())
    assert attributes(data, len(before)) == encoded
    for kind in [*encoded, other]:
        assert find_attribute(data, len(before), kind) == encoded.get(kind)


@given(st.binary(max_size=60))
def test_foreign_bytes_come_to_an_end(data):
    attributes(data)
    find_attribute(data, 0, 1)


@given(st.binary(max_size=20), ATTRIBUTES, st.frozensets(st.integers(0, 0x3FFF), max_size=3))
def test_what_is_left_out_leaves_the_rest(before, encoded, kinds):
    kinds = kinds | frozenset(list(encoded)[:1])
    data = before + b"".join(attribute(kind, value) for kind, value in encoded.items())
    left = without_attributes(data, len(before), kinds)
    assert left[: len(before)] == before
    rest = {kind: value for kind, value in encoded.items() if kind not in kinds}
    assert attributes(left, len(before)) == rest
