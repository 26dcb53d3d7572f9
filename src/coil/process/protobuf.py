"""Classes of protobuf messages that a table describes: of APIs of which few messages are used.

Generated classes would bring whole APIs, and a compiler to the build.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "enum": _FIELD.TYPE_INT32,  # the same on the wire
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
TEXTS = "map<string, string>"
Messages = Mapping[str, Mapping[str, tuple[int, str]]]


def message_classes(package: str, messages: Messages) -> dict[str, Any]:
    """The classes of ``messages`` by name. Raises ValueError for a table that makes no sense.

    A field has a number and a type: a scalar, another message of the table, or ``TEXTS``. A star
    behind it: several. A question mark and a name: of the fields with that name there is one.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            word = _add_entry(message, field_name) if kind == TEXTS else kind
            _add_field(message, field_name, number, word, package)
    pool = descriptor_pool.DescriptorPool()
    try:
        pool.Add(file)
        found = pool.FindFileByName(file.name).message_types_by_name
    except (TypeError, KeyError) as exc:
        raise ValueError(f"messages of {package}: {exc}") from exc
    return {name: message_factory.GetMessageClass(found[name]) for name in messages}


def _add_field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str, package: str
) -> None:
    word, _mark, choice = kind.rstrip("*").partition("?")
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if kind.endswith("*"):
        field.label = _FIELD.LABEL_REPEATED
    if word in _TYPES:
        field.type = _TYPES[word]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{word}"
    if choice:
        if not message.oneof_decl:
            message.oneof_decl.add(name=choice)
        field.oneof_index = 0


def _add_entry(message: descriptor_pb2.DescriptorProto, field_name: str) -> str:
    """The message inside ``message`` that a map is a list of; its type there."""
    entry = message.nested_type.add(name=field_name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        _add_field(entry, name, number, "string", "")
    return f"{message.name}.{entry.name}*"
