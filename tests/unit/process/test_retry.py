"""Pauses between attempts."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.process.retry import Backoff, sleep


def test_pauses_double_up_to_the_maximum_and_start_anew_after_reset():
    backoff = Backoff(initial=0.1, maximum=0.5, jitter=0)
    assert [backoff.next() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


@given(jitter=st.floats(0, 1), chance=st.floats(0, 1), turns=st.integers(1, 2000))
def test_chance_only_shortens_and_by_no_more_than_the_jitter(jitter, chance, turns):
    plain = Backoff(initial=0.01, maximum=3, jitter=0)
    spread = Backoff(initial=0.01, maximum=3, jitter=jitter, chance=lambda: chance)
    for _ in range(turns):
        full = plain.next()
        assert full * (1 - jitter) - 1e-9 <= spread.next() <= full <= 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": 0, "maximum": 1},
        {"initial": 2, "maximum": 1},
        {"initial": 1, "maximum": 2, "jitter": 1.5},
        {"initial": 1, "maximum": float("nan")},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="no backoff"):
        Backoff(**wrong)


def test_a_wait_lasts_as_long_as_asked_when_nothing_happens():
    start = time.monotonic()
    assert asyncio.run(sleep(0.05, asyncio.Event())) is False
    assert time.monotonic() - start >= 0.05


def test_a_wait_is_cut_short_by_the_event():
    async def wakes():
        wake = asyncio.Event()
        asyncio.get_running_loop().call_soon(wake.set)
        return await sleep(60, wake)

    start = time.monotonic()
    assert asyncio.run(wakes()) is True
    assert time.monotonic() - start < 10


def test_a_wait_does_not_begin_when_the_event_is_set_already():
    async def woken():
        wake = asyncio.Event()
        wake.set()
        return await sleep(60, wake)

    assert asyncio.run(woken()) is True


def test_cancelling_a_wait_is_no_wake():
    async def cancelled():
        async with asyncio.timeout(0.02):
            await sleep(60, asyncio.Event())

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
