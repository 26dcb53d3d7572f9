"""Keeps what BIRD announces equal to what the store and BIRD's own routes allow, for ever."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from coil.aggregates.change import Announcement, admit, alone, between
from coil.aggregates.settings import Settings
from coil.aggregates.view import View
from coil.domain.errors import CoilError, ConfigError
from coil.domain.pool import Network
from coil.process.problems import Problems
from coil.routing.bird import IS_AGGREGATE, IS_OF_RACK, aggregates_config
from coil.speakers.bird import configure_bird, list_bird_routes

_log = structlog.get_logger()


class Follower:
    """See module. What is announced is asked of BIRD each time, never remembered."""

    def __init__(
        self,
        settings: Settings,
        view: View,
        problems: Problems,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``say`` is told in one line how things are, after each pass."""
        self._settings = settings
        self._view = view
        self._problems = problems
        self._say = say
        self._clock = clock
        self._began = clock()
        self._usable_since: dict[Network, float] = {}
        self._written = False
        """Whether the file was written as it should be since we began."""

    async def run(self) -> None:
        """One pass after the other, for ever."""
        while True:
            try:
                await self._follow()
            except CoilError as exc:
                self._problems.put("bird", exc.message)
            else:
                self._problems.clear("bird")
            await asyncio.sleep(self._settings.period)

    async def _follow(self) -> None:
        """One pass. Raises SpeakerUnavailable, SpeakerRefused; the next pass begins anew."""
        reached, announced = await asyncio.to_thread(
            list_bird_routes, self._settings.bird_socket, IS_OF_RACK, IS_AGGREGATE
        )
        usable = self._view.find_usable(reached)
        if usable is None:
            if self._clock() < self._began + self._settings.patience:
                return  # a mere restart: the store is about to say that all is well
            # What our predecessor announced may hide a node that was lost meanwhile, and without
            # the store nobody knows which blocks there are. Each by itself, nothing is hidden.
            usable = []
        target = admit(usable, announced, self._settled(usable))
        if target != announced:
            await self._announce(between(announced, target))
            await asyncio.sleep(self._settings.overlap)
        if target != announced or not self._written:
            await self._announce(alone(target))
            self._written = True
            _log.info(
                "aggregates changed",
                added=sorted(map(str, target - announced)),
                removed=sorted(map(str, announced - target)),
            )
        self._say(f"{len(target)} aggregates announced")

    def _settled(self, usable: list[Network]) -> set[Network]:
        now = self._clock()
        self._usable_since = {n: self._usable_since.get(n, now) for n in usable}
        return {
            n for n, since in self._usable_since.items() if since <= now - self._settings.settle
        }

    async def _announce(self, announcement: Announcement) -> None:
        text = aggregates_config(announcement.announced, announcement.covering)
        await asyncio.to_thread(write_file, self._settings.file, text)
        await asyncio.to_thread(configure_bird, self._settings.bird_socket)


def write_file(path: Path, text: str) -> None:
    """Put ``text`` in the place of ``path``, whole or not at all. Raises ConfigError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="ascii") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {exc.strerror or exc}; see --file") from exc
