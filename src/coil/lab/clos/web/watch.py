"""Looks at the lab again and again, and tells what it is like and what has happened."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from coil.domain.errors import CoilError
from coil.lab.clos.lab import Lab
from coil.lab.clos.observe import observe
from coil.lab.clos.web.board import Board
from coil.lab.clos.web.changes import Change, changes

Json = dict[str, Any]

_PERIOD = 1.0
"""Seconds between two looks. One takes a tenth of a second of computing for 40 nodes."""
_MOST_EVENTS = 200


class Watcher:
    """Writes the parts ``lab`` and ``events``. While nobody reads the board the lab is let be."""

    def __init__(self, lab: Lab, board: Board) -> None:
        self._lab = lab
        self._board = board
        self._state: Json | None = None
        self._events: deque[Json] = deque(maxlen=_MOST_EVENTS)
        self._number = 0
        self._woken = asyncio.Event()
        self._board.publish("events", [])

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._board.wait_read()
            self._woken.clear()
            self._take(*await asyncio.to_thread(self._look))
            await self._pause()

    def wake(self) -> None:
        """Look at once: something was done."""
        self._woken.set()

    def tell(self, happened: list[Change]) -> None:
        """Add events, as of now."""
        for kind, text in happened:
            self._number += 1
            self._events.append(
                {"number": self._number, "time": time.time(), "kind": kind, "text": text}
            )
        if happened:
            self._board.publish("events", list(self._events))

    def _look(self) -> tuple[Json | None, str]:
        try:
            return observe(self._lab), ""
        except CoilError as exc:
            return None, exc.message
        except (OSError, ValueError) as exc:  # it was made or deleted while we looked
            return None, f"lab {self._lab.name} cannot be seen just now: {exc}"

    def _take(self, state: Json | None, why: str) -> None:
        if state is not None and self._state is not None:
            self.tell(changes(self._state, state))
        elif state is None and self._state is not None:
            self.tell([("bad", why)])
        self._state = state
        self._board.publish("lab", {"name": self._lab.name, "state": state, "why": why})

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_PERIOD):
                await self._woken.wait()
        except TimeoutError:
            return
