"""Several things at once, as one call that returns or fails as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

T = TypeVar("T")


async def all_of(calls: Iterable[Coroutine[object, None, T]]) -> list[T]:
    """Results of all calls, in their order. The first failure cancels the others and is raised."""
    waiting = list(calls)
    if len(waiting) <= 1:
        return [await call for call in waiting]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in waiting]
    except ExceptionGroup as exc:
        raise exc.exceptions[0] from None
    return [task.result() for task in tasks]
