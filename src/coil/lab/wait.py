"""Waiting for a condition with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from coil.lab.errors import LabError

T = TypeVar("T")
_PAUSE = 0.02


def until(
    condition: Callable[[], T | None],
    what: str | Callable[[], str],
    seconds: float = 30.0,
    *,
    pause: float = _PAUSE,
) -> T:
    """Ask ``condition`` until it returns something true, and return that. Raises LabError.

    ``what``: what is waited for, as a clause, or a function that says it when the time is over.
    ``seconds``: where nobody promised a time, enough for a machine that is slow and busy.
    ``pause``: seconds between two questions; longer where a question is dear.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise LabError(f"{told}: not within {seconds:.0f} s")
        time.sleep(pause)  # noqa: TID251 - this is the polling everybody else is told to use
