"""Retries in virtual time: how many, how far apart, and never past the limits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.retry import Patience, Retry
from tests.database.fakes import in_virtual_time


class Flaky:
    """Fails as often as told, and notes when it was tried."""

    def __init__(self, failures: int, seconds: float = 0.0) -> None:
        self.failures = failures
        self.seconds = seconds
        self.moments: list[float] = []

    async def __call__(self) -> int:
        self.moments.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if len(self.moments) <= self.failures:
            raise LookupError(len(self.moments))
        return len(self.moments)


def always(_: Exception) -> float:
    return 0.0


def forever() -> float:
    return float("inf")


@given(failures=st.integers(0, 8), attempts=st.integers(1, 7), least=st.floats(0, 3))
def test_the_first_success_or_the_last_failure(failures: int, attempts: int, least: float) -> None:
    told: list[tuple[int, str, float]] = []
    flaky = Flaky(failures)

    async def scene() -> int:
        return await Retry(attempts).run(
            flaky, lambda _: least, forever, lambda number, error, pause: told.append((number, str(error), pause))
        )

    if failures < attempts:
        assert in_virtual_time(scene()) == failures + 1
    else:
        with pytest.raises(LookupError, match=str(attempts)):
            in_virtual_time(scene())
    assert len(flaky.moments) == min(failures + 1, attempts)
    assert [(number, text) for number, text, _ in told] == [(n, str(n)) for n in range(1, len(flaky.moments))]
    bounds = [min(0.1 * 2**step, 5.0) for step in range(len(told))]
    for (_, _, pause), bound, before, after in zip(told, bounds, flaky.moments, flaky.moments[1:], strict=False):
        assert least <= pause <= least + bound
        assert after - before == pytest.approx(pause)


def test_pauses_double_from_100_ms_to_5_s_with_full_jitter() -> None:
    pauses: list[list[float]] = [[] for _ in range(8)]

    async def scene() -> None:
        await Retry(9).run(Flaky(8), always, forever, lambda number, _, pause: pauses[number - 1].append(pause))

    for _ in range(300):
        in_virtual_time(scene())
    for seen, bound in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0), strict=True):
        assert 0.9 * bound < max(seen) <= bound
        assert min(seen) < 0.1 * bound


def test_what_cannot_pass_is_not_tried_again() -> None:
    flaky = Flaky(1)
    with pytest.raises(LookupError):
        in_virtual_time(Retry().run(flaky, lambda _: None, forever))
    assert len(flaky.moments) == 1


@given(limit=st.floats(0, 3), seconds=st.floats(0, 0.5), least=st.floats(0, 1))
def test_no_attempt_begins_after_the_limit(limit: float, seconds: float, least: float) -> None:
    flaky = Flaky(100, seconds)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(LookupError):
            await Retry().run(flaky, lambda _: least, lambda: limit - loop.time())
        assert loop.time() <= limit + seconds

    in_virtual_time(scene())
    assert all(moment < limit for moment in flaky.moments[1:])


def test_cancellation_ends_the_attempts() -> None:
    flaky = Flaky(100)

    async def scene() -> None:
        task = asyncio.create_task(Retry().run(flaky, lambda _: 1.0, forever))
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(60)

    in_virtual_time(scene())
    assert len(flaky.moments) == 2


def test_patience_never_goes_below_zero() -> None:
    patience = Patience(1.0)
    patience.spend(0.4)
    assert patience.left == pytest.approx(0.6)
    patience.spend(5)
    assert patience.left == 0.0
