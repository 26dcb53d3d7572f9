"""What the store asks of etcd: all it needs, and so all that another engine must give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from coil.store.etcd.wire import Changes, Compare, Found, Operation, Results


class Engine(Protocol):
    """An etcd cluster (``client``), or the same requests executed in memory (``memory``).

    Printed, it says where it is. Every call may raise StoreUnavailable and StoreError.
    """

    @property
    def closing(self) -> asyncio.Event:
        """Set when the engine is closed."""

    async def close(self) -> None:
        """Release everything; idempotent. Calls in flight fail, watches return."""

    def attempts(self) -> AsyncIterator[None]:
        """Turns of a compare-and-swap, with pauses between them."""

    async def read(self, first: Operation, *more: Operation) -> Found:
        """Several reads of one moment."""

    async def write(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        repeatable: bool = False,
    ) -> Results:
        """One transaction. ``repeatable``: done a second time it does no harm.

        After StoreUnavailable its outcome is unknown.
        """

    async def grant(self, seconds: int) -> int:
        """A new lease of so many seconds; its id."""

    async def keep_alive(self, lease: int) -> bool:
        """Let a lease begin anew; False when it has ended already."""

    async def time_left(self, lease: int) -> tuple[int, int]:
        """Whole seconds that a lease has left, and those it was granted; of one that ended -1, 0.

        Whoever keeps it alive lets it begin anew.
        """

    async def revoke(self, lease: int) -> None:
        """End a lease and all its keys; one that has ended is fine."""

    async def server_version(self) -> str:
        """Which etcd this is."""

    def changes(self, prefix: str, revision: int) -> AsyncGenerator[Changes, None]:
        """Yield what changes below ``prefix`` from ``revision`` on, message by message.

        Ends when that cannot be known any more, and when the engine is closed. Raises
        StoreUnavailable when it is interrupted.
        """
