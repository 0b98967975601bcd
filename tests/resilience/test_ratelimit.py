"""The limiter against a plain token bucket in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.ratelimit import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Bucket:
    """The textbook: tokens flow in with time, one leaves with each request."""

    def __init__(self, per_minute: int, burst: int, now: float) -> None:
        self.rate = Fraction(per_minute, 60)
        self.burst = burst
        self.tokens = Fraction(burst)
        self.at = Fraction(now)

    def admit(self, now: float) -> Fraction:
        self.tokens = min(Fraction(self.burst), self.tokens + (Fraction(now) - self.at) * self.rate)
        self.at = Fraction(now)
        if self.tokens >= 1:
            self.tokens -= 1
            return Fraction(0)
        return (1 - self.tokens) / self.rate


# Rates whose interval and times are exact in binary: the model and the limiter then agree to the last bit.
@given(
    st.sampled_from([15, 30, 60, 120, 240, 480]),
    st.integers(1, 10),
    st.lists(st.tuples(st.integers(0, 64), st.sampled_from("ab")), max_size=80),
)
def test_it_is_a_token_bucket(per_minute: int, burst: int, arrivals: list[tuple[int, str]]) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, burst, 10, clock)
    buckets = {name: Bucket(per_minute, burst, clock.now) for name in "ab"}
    for eighths, name in arrivals:
        clock.now += eighths / 8
        assert limiter.admit(name) == float(buckets[name].admit(clock.now))


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_who_waits_as_long_as_told_is_admitted(per_minute: int, burst: int) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, burst, 1, clock)
    assert [limiter.admit("a") for _ in range(burst)] == [0.0] * burst
    for _ in range(20):
        wait = limiter.admit("a")
        assert 0 < wait <= 60 / per_minute + 1e-6
        assert limiter.admit("a") == wait  # a refusal costs nothing
        clock.now += wait
        assert limiter.admit("a") == 0.0


def test_memory_is_bounded_and_the_longest_idle_is_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(1, 1, 100, clock)
    assert limiter.admit("busy") == 0.0
    for number in range(10_000):
        clock.now += 0.001
        assert limiter.admit(number) == 0.0
        assert limiter.admit("busy") > 0
    assert len(limiter) == 100
    assert limiter.admit(0) == 0.0


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_limit_of_nothing_is_a_mistake(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RateLimiter(*arguments)
