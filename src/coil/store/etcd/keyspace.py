"""Keys in their order, and what etcd's requests do to them. No I/O and no time.

Facts of the API: https://etcd.io/docs/v3.5/learning/api/. All comparisons of a transaction, also
those inside its choices, are of the state before it; what it writes has one revision.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any

from coil.store.etcd import rpc

_COMPARISONS: dict[int, Callable[[Any, Any], bool]] = {
    rpc.Result.EQUAL: operator.eq,
    rpc.Result.NOT_EQUAL: operator.ne,
    rpc.Result.GREATER: operator.gt,
    rpc.Result.LESS: operator.lt,
}
_TARGETS = {
    rpc.Target.VERSION: "version",
    rpc.Target.CREATE: "create_revision",
    rpc.Target.MOD: "mod_revision",
    rpc.Target.VALUE: "value",
    rpc.Target.LEASE: "lease",
}
_ABSENT = rpc.KeyValue()


class Keyspace:
    """See module."""

    def __init__(self) -> None:
        self.revision = 1
        """As in etcd: that of an empty store."""
        self._names: list[bytes] = []
        self._pairs: dict[bytes, Any] = {}

    def range(self, request: Any) -> Any:
        """Answer a RangeRequest of now."""
        names = list(self._between(request.key, request.range_end))
        count = len(names)
        if request.count_only:
            names = []
        shown = names[: request.limit] if request.limit else names
        pairs = (self._pairs[name] for name in shown)
        return rpc.RangeResponse(
            header=rpc.ResponseHeader(revision=self.revision),
            kvs=[_without_value(pair) for pair in pairs] if request.keys_only else pairs,
            count=count,
            more=len(shown) < len(names),
        )

    def txn(self, request: Any) -> tuple[Any, list[Any]]:
        """Execute a TxnRequest; its answer, and the events for whoever watches."""
        path = self._decide(request)
        events: list[Any] = []
        answer = self._execute(request, path, events)
        if events:
            self.revision += 1
        answer.header.revision = self.revision
        return answer, events

    def end_lease(self, lease: int) -> list[Any]:
        """Delete the keys of a lease; the events."""
        gone = [name for name, pair in self._pairs.items() if pair.lease == lease]
        events = [self._delete(name) for name in gone]
        self.revision += bool(events)
        return events

    def _between(self, begin: bytes, end: bytes) -> Iterator[bytes]:
        if not end:
            return iter([begin] if begin in self._pairs else [])
        first, last = (bisect_left(self._names, each) for each in (begin, end))
        return iter(self._names[first:last])

    def _decide(self, request: Any) -> Iterator[bool]:
        """Which branch each transaction takes, in the order in which they are executed."""
        holds = all(self._holds(compare) for compare in request.compare)
        decisions = [holds]
        for operation in request.success if holds else request.failure:
            if operation.HasField("request_txn"):
                decisions += self._decide(operation.request_txn)
        return iter(decisions)

    def _holds(self, compare: Any) -> bool:
        name = _TARGETS[compare.target]
        wanted = getattr(compare, name)
        found = [self._pairs[key] for key in self._between(compare.key, compare.range_end)]
        if not found:
            if compare.target == rpc.Target.VALUE:
                return False
            found = [_ABSENT]
        holds = _COMPARISONS[compare.result]
        return all(holds(getattr(pair, name), wanted) for pair in found)

    def _execute(self, request: Any, path: Iterator[bool], events: list[Any]) -> Any:
        succeeded = next(path)
        operations = request.success if succeeded else request.failure
        return rpc.TxnResponse(
            succeeded=succeeded,
            responses=[self._operate(operation, path, events) for operation in operations],
        )

    def _operate(self, operation: Any, path: Iterator[bool], events: list[Any]) -> Any:
        match operation.WhichOneof("request"):
            case "request_range":
                return rpc.ResponseOp(response_range=self.range(operation.request_range))
            case "request_put":
                events.append(self._put(operation.request_put))
                return rpc.ResponseOp(response_put=rpc.PutResponse())
            case "request_delete_range":
                request = operation.request_delete_range
                gone = [
                    self._delete(name) for name in self._between(request.key, request.range_end)
                ]
                events += gone
                answer = rpc.DeleteRangeResponse(deleted=len(gone))
                return rpc.ResponseOp(response_delete_range=answer)
            case _:
                answer = self._execute(operation.request_txn, path, events)
                return rpc.ResponseOp(response_txn=answer)

    def _put(self, request: Any) -> Any:
        before = self._pairs.get(request.key)
        if before is None:
            insort(self._names, request.key)
        pair = rpc.KeyValue(
            key=request.key,
            value=request.value,
            lease=request.lease,
            version=(before.version if before else 0) + 1,
            create_revision=before.create_revision if before else self.revision + 1,
            mod_revision=self.revision + 1,
        )
        self._pairs[request.key] = pair
        return rpc.Event(type=rpc.Kind.PUT, kv=pair)

    def _delete(self, name: bytes) -> Any:
        del self._pairs[name]
        del self._names[bisect_left(self._names, name)]
        gone = rpc.KeyValue(key=name, mod_revision=self.revision + 1)
        return rpc.Event(type=rpc.Kind.DELETE, kv=gone)


def _without_value(pair: Any) -> Any:
    return rpc.KeyValue(
        key=pair.key,
        lease=pair.lease,
        version=pair.version,
        create_revision=pair.create_revision,
        mod_revision=pair.mod_revision,
    )
