"""Messages of etcd's API, made and read: the typed face of ``rpc``.

Facts of the API: https://etcd.io/docs/v3.5/learning/api/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NewType

from coil.store.etcd import rpc

Compare = NewType("Compare", object)
Operation = NewType("Operation", object)


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key. ``revision`` is etcd's mod_revision."""

    key: str
    value: bytes
    revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What one message of a watch brought, in the order in which it happened."""

    revision: int
    """Nothing up to this one is still to come."""
    changes: Sequence[tuple[str, KeyValue | None]]
    """Keys, each with what it holds now, None when it was deleted."""


class Found:
    """What several reads of one moment brought, in their order."""

    def __init__(self, revision: int, answers: Sequence[Any]) -> None:
        self.revision = revision
        """Of the whole store, when this was so."""
        self._answers = answers

    def pairs(self, position: int) -> list[KeyValue]:
        """What the ``get`` at this position found."""
        return _pairs(self._answers[position])

    def count(self, position: int) -> int:
        """How many keys the ``get`` at this position met, shown or not."""
        return int(self._answers[position].count)


class Results:
    """What the operations of a transaction brought, in their order."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @property
    def succeeded(self) -> bool:
        """Whether the comparisons held, and so which of the two lists was executed."""
        return bool(self._answer.succeeded)

    def pairs(self, position: int) -> list[KeyValue]:
        """What the ``get`` at this position found."""
        return _pairs(self._answer.responses[position].response_range)

    def nested(self, position: int) -> Results:
        """What the transaction at this position brought."""
        return Results(self._answer.responses[position].response_txn)

    def __len__(self) -> int:
        return len(self._answer.responses)


def _pairs(answer: Any) -> list[KeyValue]:
    return [_to_pair(kv) for kv in answer.kvs]


def _to_pair(kv: Any) -> KeyValue:
    return KeyValue(kv.key.decode("utf-8", "backslashreplace"), kv.value, kv.mod_revision, kv.lease)


def to_changes(events: Sequence[Any]) -> Changes:
    """Read the events, one or more, of a message of a watch."""
    pairs = [(_to_pair(event.kv), event.type) for event in events]
    changes = [(pair.key, pair if kind == rpc.Kind.PUT else None) for pair, kind in pairs]
    # Not the header's: that one may be ahead of events which come in a later message.
    return Changes(pairs[-1][0].revision, changes)


def prefix_end(prefix: str) -> bytes:
    """The first key behind all that begin with ``prefix``; ours are ASCII and never end in 0x7f."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def is_absent(key: str) -> Compare:
    """Holds when there is no such key."""
    return _compare(key, rpc.Target.VERSION, rpc.Result.EQUAL, version=0)


def exists(key: str) -> Compare:
    """Holds when there is such a key."""
    return _compare(key, rpc.Target.VERSION, rpc.Result.GREATER, version=0)


def none_below(prefix: str) -> Compare:
    """Holds when no key begins with ``prefix``."""
    return _compare(
        prefix, rpc.Target.VERSION, rpc.Result.EQUAL, version=0, range_end=prefix_end(prefix)
    )


def is_unchanged(pair: KeyValue) -> Compare:
    """Holds when the key was not written since it was read."""
    return _compare(pair.key, rpc.Target.MOD, rpc.Result.EQUAL, mod_revision=pair.revision)


def none_newer(prefix: str, revision: int) -> Compare:
    """Holds when nothing below ``prefix`` was written after ``revision`` (deletions may be)."""
    return _compare(
        prefix,
        rpc.Target.MOD,
        rpc.Result.LESS,
        mod_revision=revision + 1,
        range_end=prefix_end(prefix),
    )


def has_value(key: str, value: bytes) -> Compare:
    """Holds when the key is there with exactly this value."""
    return _compare(key, rpc.Target.VALUE, rpc.Result.EQUAL, value=value)


def has_other_value(key: str, value: bytes) -> Compare:
    """Holds when the key is there with another value; of an absent key etcd compares no value."""
    return _compare(key, rpc.Target.VALUE, rpc.Result.NOT_EQUAL, value=value)


def _compare(key: str, target: int, result: int, **fields: Any) -> Compare:
    return Compare(rpc.Compare(key=key.encode(), target=target, result=result, **fields))


def put(key: str, value: bytes, *, lease: int = 0) -> Operation:
    """Write a key; it goes when the lease does (0: stays)."""
    request = rpc.PutRequest(key=key.encode(), value=value, lease=lease)
    return Operation(rpc.RequestOp(request_put=request))


def get(key: str) -> Operation:
    """Read one key."""
    return Operation(rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode())))


def get_below(prefix: str) -> Operation:
    """Read all keys that begin with ``prefix``, in their order."""
    return _get_range(prefix, prefix_end(prefix))


def get_page(begin: str, prefix: str, revision: int, *, limit: int) -> Operation:
    """Read keys below ``prefix`` from ``begin`` on, as they were at ``revision``."""
    return _get_range(begin, prefix_end(prefix), revision=revision, limit=limit)


def get_between(begin: str, end: str) -> Operation:
    """Read the keys from ``begin`` to before ``end``."""
    return _get_range(begin, end.encode())


def get_names(begin: str, end: str, *, limit: int = 0) -> Operation:
    """Read the keys (without values) from ``begin`` to before ``end``; limit 0: all of them."""
    return _get_range(begin, end.encode(), keys_only=True, limit=limit)


def count_between(begin: str, end: str) -> Operation:
    """Count the keys from ``begin`` to before ``end``."""
    return _get_range(begin, end.encode(), count_only=True)


def _get_range(begin: str, end: bytes, **fields: Any) -> Operation:
    request = rpc.RangeRequest(key=begin.encode(), range_end=end, **fields)
    return Operation(rpc.RequestOp(request_range=request))


def delete(key: str) -> Operation:
    """Delete one key."""
    request = rpc.DeleteRangeRequest(key=key.encode())
    return Operation(rpc.RequestOp(request_delete_range=request))


def delete_below(prefix: str) -> Operation:
    """Delete all keys that begin with ``prefix``."""
    request = rpc.DeleteRangeRequest(key=prefix.encode(), range_end=prefix_end(prefix))
    return Operation(rpc.RequestOp(request_delete_range=request))


def choice(
    compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
) -> Operation:
    """A transaction inside a transaction."""
    return Operation(rpc.RequestOp(request_txn=txn_request(compare, success, failure)))


def range_request(operation: Operation, revision: int = 0) -> Any:
    """The request of one ``get`` alone; with a revision, of what was then."""
    request: Any = operation
    if revision:
        request.request_range.revision = revision
    return request.request_range


def txn_request(
    compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
) -> Any:
    """The request of a transaction."""
    return rpc.TxnRequest(compare=compare, success=success, failure=failure)


def watch_request(prefix: str, revision: int) -> Any:
    """Ask for every change below ``prefix`` from ``revision`` on."""
    create = rpc.WatchCreateRequest(
        key=prefix.encode(), range_end=prefix_end(prefix), start_revision=revision
    )
    return rpc.WatchRequest(create_request=create)
