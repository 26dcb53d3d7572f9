"""What browsers see, in named parts that are replaced as a whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

_ALIVE_SECONDS = 15.0
"""A browser hears something at least that often, so that one that is gone is noticed."""


class Board:
    """Parts by name. A browser is sent the newest of each part that it has not seen.

    A slow browser skips what was replaced meanwhile: nothing is kept for it.
    """

    def __init__(self) -> None:
        self._parts: dict[str, bytes] = {}
        self._changed = asyncio.Event()
        self._readers = 0
        self._read = asyncio.Event()

    def publish(self, name: str, value: object) -> None:
        """Replace a part; nobody is told when it is as it was."""
        message = f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
        if self._parts.get(name) != message:
            self._parts[name] = message
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait_read(self) -> None:
        """Wait until somebody reads."""
        await self._read.wait()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """All parts, and then what changes, as server-sent events (HTML standard, 9.2)."""
        seen: dict[str, bytes] = {}
        self._count(1)
        try:
            while True:
                changed = self._changed
                for name, message in list(self._parts.items()):
                    if seen.get(name) is not message:
                        seen[name] = message
                        yield message
                if not await _is_set(changed):
                    yield b": still here\n\n"
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self._readers += more
        if self._readers:
            self._read.set()
        else:
            self._read.clear()


async def _is_set(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(_ALIVE_SECONDS):
            return await event.wait()
    except TimeoutError:
        return False
