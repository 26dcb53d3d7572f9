"""What is wrong and could not be mended: shown by status, STATUS, metrics and doctor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

import structlog

_log = structlog.get_logger()

S = TypeVar("S", bound=str)


class Problems:
    """Current problems by kind and subject. Said in the log once, when they appear and go."""

    def __init__(self) -> None:
        self._current: dict[tuple[str, str], str] = {}

    def put(self, kind: str, message: str, subject: str = "") -> None:
        """There is this problem now; replaces an earlier one of the same kind and subject."""
        if self._current.get((kind, subject)) != message:
            _log.error("problem", kind=kind, subject=subject, reason=message)
        self._current[kind, subject] = message

    def clear(self, kind: str, subject: str = "") -> None:
        """That problem is no more; idempotent."""
        if self._current.pop((kind, subject), None) is not None:
            _log.info("problem gone", kind=kind, subject=subject)

    def keep(self, kind: str, subjects: Collection[str]) -> None:
        """Of this kind only these subjects may still have one."""
        for found, subject in list(self._current):
            if found == kind and subject not in subjects:
                self.clear(kind, subject)

    def replace(self, kind: str, messages: Mapping[S, str]) -> None:
        """Of this kind there are these problems now, by subject, and no others."""
        self.keep(kind, messages.keys())
        for subject, message in messages.items():
            self.put(kind, message, subject)

    def keep_only(self, kinds: Collection[str]) -> None:
        """Of other kinds than these there are none now."""
        for kind, subject in list(self._current):
            if kind not in kinds:
                self.clear(kind, subject)

    def list(self) -> list[dict[str, str]]:
        """All of them, sorted."""
        return [
            {"kind": kind, "subject": subject, "problem": message}
            for (kind, subject), message in sorted(self._current.items())
        ]

    def count(self, kind: str) -> int:
        """How many of one kind."""
        return sum(1 for found, _subject in self._current if found == kind)
