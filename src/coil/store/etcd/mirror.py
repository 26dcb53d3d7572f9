"""All keys below a prefix: read once, then kept by what changes.

For those who must know what all nodes have: a change costs them itself, not another look at all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Generic, TypeVar

from coil.store.etcd.engine import Engine
from coil.store.etcd.wire import Changes, KeyValue, get_below

K = TypeVar("K")
V = TypeVar("V")
Read = Callable[[Iterable[KeyValue]], Iterable[tuple[K, V]]]
"""Makes entries of keys, leaving out those that cannot be read."""


class Mirror(Generic[K, V]):
    """One per watch; ``aclose`` it."""

    def __init__(self, client: Engine, prefix: str, read: Read[K, V]) -> None:
        self._client = client
        self._prefix = prefix
        self._read = read
        self._entries: dict[str, tuple[K, V]] = {}
        self._revision = 0
        self._changes: AsyncGenerator[Changes, None] | None = None

    async def next(self) -> dict[K, V]:
        """What is there now; called again, what is there after the next change.

        Raises StoreUnavailable, StoreError: call it again then, and nothing is missed.
        """
        if not self._revision or not await self._follow():
            found = await self._client.read(get_below(self._prefix))
            self._entries.clear()
            for pair in found.pairs(0):
                self._put(pair.key, pair)
            self._revision = found.revision
        return dict(self._entries.values())

    async def aclose(self) -> None:
        """End the watch; idempotent."""
        if self._changes is not None:
            await self._changes.aclose()
            self._changes = None

    async def _follow(self) -> bool:
        """Wait for the next change and apply it; False when all has to be read again."""
        if self._changes is None:
            self._changes = self._client.changes(self._prefix, self._revision + 1)
        try:
            found = await anext(self._changes, None)
        except BaseException:
            self._changes = None
            raise
        if found is None:
            self._changes = None
            return False
        for key, pair in found.changes:
            self._put(key, pair)
        self._revision = found.revision
        return True

    def _put(self, key: str, pair: KeyValue | None) -> None:
        self._entries.pop(key, None)
        for entry in self._read([pair] if pair else []):
            self._entries[key] = entry
