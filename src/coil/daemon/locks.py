"""One lock per attachment: its verbs are carried out in order, others' beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coil.domain.attachment import AttachmentKey


class AttachmentLocks:
    """Locks made when first wanted and dropped when nobody holds or awaits them."""

    def __init__(self) -> None:
        self._locks: dict[AttachmentKey, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: AttachmentKey) -> AsyncIterator[None]:
        """Wait for, and hold, the lock of ``key``. First come, first served."""
        lock, holders = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, holders + 1)
        try:
            async with lock:
                yield
        finally:
            lock, holders = self._locks[key]
            if holders == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, holders - 1)

    def is_held(self, key: AttachmentKey) -> bool:
        """Whether anybody works on the attachment or waits to."""
        return key in self._locks

    def __bool__(self) -> bool:
        """Whether any attachment is being worked on."""
        return bool(self._locks)
