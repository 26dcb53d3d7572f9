"""Attributes as the kernel lays them out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coil.nodenet.netlink import attribute, attributes, find_attribute

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
