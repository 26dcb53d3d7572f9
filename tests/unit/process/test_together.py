"""Several calls as one: all results, or the first failure and nothing left running."""

from __future__ import annotations

import asyncio

import pytest

from coil.process.together import all_of


async def give(value: int, turns: int) -> int:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


def test_results_come_in_the_order_of_the_calls() -> None:
    async def main() -> list[int]:
        return await all_of(give(number, 5 - number) for number in range(5))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert asyncio.run(all_of([])) == []


@pytest.mark.parametrize("others", [0, 3])
def test_a_failure_is_raised_as_itself_and_ends_the_others(others: int) -> None:
    ended: list[int] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("this one")

    with pytest.raises(LookupError, match="this one"):
        asyncio.run(all_of([*(wait() for _ in range(others)), fail()]))
    assert len(ended) == others
