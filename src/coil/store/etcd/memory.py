"""etcd's requests executed in memory: for simulations and tests that need thousands of nodes.

Nobody can choose it as a store: nothing outlives the process. It executes the very messages that
are sent to etcd, so that what runs on it is the real store. It keeps no history: an older revision
is answered as by an etcd that has compacted it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd.keyspace import Keyspace
from coil.store.etcd.wire import (
    Changes,
    Compare,
    Found,
    Operation,
    Results,
    prefix_end,
    range_request,
    to_changes,
    txn_request,
)

_TURNS = 100
"""Of a compare-and-swap: here time says nothing of how often others were first."""


class MemoryEtcd:
    """What all clients share. ``clock``: seconds, for leases."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.keyspace = Keyspace()
        self.away = False
        """Set: nobody is answered, as in an outage."""
        self._leases: dict[int, tuple[int, float]] = {}
        self._last_lease = 0
        self._watches: set[_Watch] = set()

    def read(self, requests: Sequence[Any]) -> tuple[int, list[Any]]:
        """Answer several reads of now. Raises StoreUnavailable for what was then."""
        self._end_leases()
        revision = self.keyspace.revision
        if any(request.revision not in {0, revision} for request in requests):
            raise StoreUnavailable("etcd in memory: the required revision has been compacted")
        return revision, [self.keyspace.range(request) for request in requests]

    def write(self, request: Any) -> Any:
        """Execute a transaction."""
        self._end_leases()
        answer, events = self.keyspace.txn(request)
        self._tell(events)
        return answer

    def grant(self, seconds: int) -> int:
        """A new lease."""
        self._last_lease += 1
        self._leases[self._last_lease] = seconds, self._clock() + seconds
        return self._last_lease

    def keep_alive(self, lease: int) -> bool:
        """Let a lease begin anew, if it has not ended."""
        self._end_leases()
        found = self._leases.get(lease)
        if found:
            self._leases[lease] = found[0], self._clock() + found[0]
        return found is not None

    def time_left(self, lease: int) -> tuple[int, int]:
        """See the engine."""
        self._end_leases()
        seconds, end = self._leases.get(lease, (0, 0.0))
        return int(end - self._clock()) if seconds else -1, seconds

    def revoke(self, lease: int) -> None:
        """End a lease and its keys."""
        if self._leases.pop(lease, None):
            self._tell(self.keyspace.end_lease(lease))

    @contextlib.contextmanager
    def watch(self, prefix: str) -> Iterator[_Watch]:
        """What changes below a prefix from now on, until the end of the context."""
        watch = _Watch(prefix)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def _end_leases(self) -> None:
        now = self._clock()
        for lease in [each for each, (_ttl, end) in self._leases.items() if end <= now]:
            self.revoke(lease)

    def _tell(self, events: Sequence[Any]) -> None:
        for watch in self._watches:
            watch.tell(events)


class _Watch:
    """Messages that wait for whoever watches a prefix."""

    def __init__(self, prefix: str) -> None:
        self._begin, self._end = prefix.encode(), prefix_end(prefix)
        self.messages: asyncio.Queue[Changes | None] = asyncio.Queue()
        """None: the client is closed."""

    def tell(self, events: Sequence[Any]) -> None:
        mine = [event for event in events if self._begin <= event.kv.key < self._end]
        if mine:
            self.messages.put_nowait(to_changes(mine))


class MemoryClient:
    """One client of it; see ``engine.Engine``. Each call lets others run before it."""

    def __init__(self, etcd: MemoryEtcd) -> None:
        self._etcd = etcd
        self._closing = asyncio.Event()

    def __str__(self) -> str:
        return "etcd in memory"

    @property
    def closing(self) -> asyncio.Event:
        """See the engine."""
        return self._closing

    async def close(self) -> None:
        """See the engine."""
        self._closing.set()

    async def attempts(self) -> AsyncIterator[None]:
        """See the engine."""
        for _ in range(_TURNS):
            yield
            await asyncio.sleep(0)

    async def read(self, first: Operation, *more: Operation) -> Found:
        """See the engine."""
        await self._reach()
        return Found(*self._etcd.read([range_request(each) for each in (first, *more)]))

    async def write(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        repeatable: bool = False,
    ) -> Results:
        """See the engine."""
        del repeatable
        await self._reach()
        return Results(self._etcd.write(txn_request(compare, success, failure)))

    async def grant(self, seconds: int) -> int:
        """See the engine."""
        await self._reach()
        return self._etcd.grant(seconds)

    async def keep_alive(self, lease: int) -> bool:
        """See the engine."""
        await self._reach()
        return self._etcd.keep_alive(lease)

    async def time_left(self, lease: int) -> tuple[int, int]:
        """See the engine."""
        await self._reach()
        return self._etcd.time_left(lease)

    async def revoke(self, lease: int) -> None:
        """See the engine."""
        await self._reach()
        self._etcd.revoke(lease)

    async def server_version(self) -> str:
        """See the engine."""
        await self._reach()
        return "3.5.0"

    async def changes(self, prefix: str, revision: int) -> AsyncGenerator[Changes, None]:
        """See the engine."""
        await self._reach()
        if self._etcd.keyspace.revision >= revision:
            return
        with self._etcd.watch(prefix) as watch:
            while (found := await self._next(watch)) is not None:
                yield found

    async def _next(self, watch: _Watch) -> Changes | None:
        async with asyncio.TaskGroup() as group:
            closed = group.create_task(self._closing.wait())
            message = group.create_task(watch.messages.get())
            await asyncio.wait({closed, message}, return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            message.cancel()
        return message.result() if not message.cancelled() else None

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self._closing.is_set():
            raise StoreError(f"{self}: the store is closed")
        if self._etcd.away:
            raise StoreUnavailable(f"{self}: it is away")
