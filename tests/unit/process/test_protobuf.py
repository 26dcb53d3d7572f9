"""Messages made of tables are those that the same lines of a .proto file would make."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2

from coil.process.protobuf import TEXTS, message_classes

TABLE = {
    "Inner": {"number": (1, "int64")},
    "Outer": {
        "several": (2, "Inner*"),
        "words": (3, "string*"),
        "one": (4, "bytes?choice"),
        "other": (5, "Inner?choice"),
        "labels": (6, TEXTS),
        "kind": (7, "enum"),
    },
}


def test_what_was_written_is_read_by_other_classes_of_the_same_messages():
    classes, others = message_classes("one", TABLE), message_classes("two", TABLE)
    written = classes["Outer"](several=[{"number": 7}, {}], words=["a"], labels={"k": "v"}, kind=3)
    read = others["Outer"].FromString(written.SerializeToString())
    assert [inner.number for inner in read.several] == [7, 0]
    assert (list(read.words), dict(read.labels), read.kind) == (["a"], {"k": "v"}, 3)


def test_of_a_choice_the_last_counts():
    message = message_classes("choices", TABLE)["Outer"](one=b"1")
    assert message.WhichOneof("choice") == "one"
    message.other.number = 2
    assert (message.WhichOneof("choice"), message.one) == ("other", b"")


def test_the_bytes_are_protobufs():
    """Against the library's own classes: a message of descriptor.proto with fields 1 and 3."""
    (described,) = message_classes(
        "bytes", {"FieldDescriptorProto": {"name": (1, "string"), "number": (3, "int32")}}
    ).values()
    original = descriptor_pb2.FieldDescriptorProto(name="f", number=300)
    assert described(name="f", number=300).SerializeToString() == original.SerializeToString()


def test_a_table_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="messages of wrong"):
        message_classes("wrong", {"A": {"b": (1, "Nobody")}})
