"""Alarms in virtual time: each rings when it is due, once, or not at all; and a limit is what asyncio.timeout is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.alarms import Alarms, Limit
from tests.database.fakes import in_virtual_time

_SECONDS = st.floats(0, 10, allow_nan=False)


@given(st.lists(st.tuples(_SECONDS, _SECONDS, st.none() | _SECONDS), max_size=12))
def test_each_rings_once_when_it_is_due_unless_it_was_unset(plans: list[tuple[float, float, float | None]]) -> None:
    """Each plan: when the alarm is set, how long after that it is due, and when it is unset, if ever."""
    rung: dict[int, float] = {}
    alarms = Alarms()

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, (start, delay, end) in enumerate(plans):
            due = began + start + delay

            def ring(number: int = number) -> None:
                assert number not in rung
                rung[number] = loop.time() - began

            loop.call_at(began + start, alarms.set, number, due, ring)
            if end is not None:
                # A moment later: the loop keeps no order among callbacks of one time.
                loop.call_at(began + start + end + 0.001, alarms.unset, number)
        await asyncio.sleep(25)

    in_virtual_time(scene())
    for number, (start, delay, end) in enumerate(plans):
        if end is None or end > delay + 0.01:
            assert rung[number] == pytest.approx(start + delay, abs=0.01)
        elif end < delay - 0.01:
            assert number not in rung
    assert len(alarms) == 0


async def _work(seconds: float, swallows: bool) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if not swallows:
            raise
        return "swallowed"
    return "done"


async def _outcome(scope: Any, seconds: float, swallows: bool, cancel_after: float | None) -> tuple[str, bool, int]:
    """What comes of work in a scope: its result or error, whether the task counts as cancelled, and when."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def inside() -> str:
        async with scope:
            return await _work(seconds, swallows)

    task = asyncio.create_task(inside())
    if cancel_after is not None:
        loop.call_later(cancel_after, task.cancel)
    try:
        result = await task
    except TimeoutError:
        result = "timeout"
    except asyncio.CancelledError:
        result = "cancelled"
    return result, task.cancelling() > 0, round((loop.time() - began) * 10)


_STEPS = st.integers(0, 6).map(lambda step: step + 0.25)


@given(
    limit=st.integers(0, 6).map(lambda step: step + 0.5),
    seconds=_STEPS,
    swallows=st.booleans(),
    cancel_after=st.none() | st.integers(0, 6).map(lambda step: step + 0.75),
)
def test_a_limit_is_what_the_stdlib_has(
    limit: float, seconds: float, swallows: bool, cancel_after: float | None
) -> None:
    async def scene(scope: Any) -> tuple[str, bool, int]:
        return await _outcome(scope(), seconds, swallows, cancel_after)

    ours = in_virtual_time(scene(lambda: Limit(Alarms(), limit)))
    theirs = in_virtual_time(scene(lambda: asyncio.timeout(limit)))
    assert ours == theirs


def test_a_limit_says_that_it_expired_and_leaves_nothing() -> None:
    alarms = Alarms()

    async def scene() -> None:
        for seconds, expires in ((0.1, False), (2.0, True)):
            limit = Limit(alarms, 1.0)
            if expires:
                with pytest.raises(TimeoutError):
                    async with limit:
                        await asyncio.sleep(seconds)
            else:
                async with limit:
                    await asyncio.sleep(seconds)
            assert limit.has_expired is expires
            assert len(alarms) == 0

    in_virtual_time(scene())
