"""A watch that stays open from one change to the next.

Opening and ending one costs as much as three reads, here and in etcd.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from coil.store.etcd.engine import Engine
from coil.store.etcd.wire import Changes


class Follower:
    """One per watch; ``aclose`` it."""

    def __init__(self, client: Engine, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._changes: AsyncGenerator[Changes, None] | None = None

    async def next(self, revision: int) -> Changes | None:
        """The next message that tells of more than ``revision``, of which the caller knows all.

        None when that cannot be known any more: all has to be read again. Raises StoreUnavailable,
        StoreError: called again with the same revision, it misses nothing.
        """
        if self._changes is None:
            self._changes = self._client.changes(self._prefix, revision + 1)
        try:
            found = await anext(self._changes, None)
            while found is not None and found.revision <= revision:
                found = await anext(self._changes, None)
        except BaseException:
            self._changes = None
            raise
        if found is None:
            self._changes = None
        return found

    async def aclose(self) -> None:
        """End the watch; idempotent."""
        if self._changes is not None:
            await self._changes.aclose()
            self._changes = None
