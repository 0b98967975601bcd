"""The limiter against a plain token bucket in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.resilience.ratelimit import Rate, RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Bucket:
    """The textbook: tokens flow in with time, one leaves with each request."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = Fraction(rate.per_minute, 60)
        self.burst = rate.burst
        self.tokens = Fraction(rate.burst)
        self.at = Fraction(now)

    def fill(self, now: float) -> None:
        self.tokens = min(Fraction(self.burst), self.tokens + (Fraction(now) - self.at) * self.rate)
        self.at = Fraction(now)

    @property
    def wait(self) -> Fraction:
        return max(Fraction(0), (1 - self.tokens) / self.rate)


# Rates whose interval and times are exact in binary: the model and the limiter then agree to the last bit.
RATES = st.builds(Rate, st.sampled_from([15, 30, 60, 120, 240, 480]), st.integers(1, 10))
KEYS = st.sampled_from("abcde")
REMEMBERED = 3


class Model(RuleBasedStateMachine):
    """Five buckets, each with a rate of its own; three are remembered, and a forgotten one is full."""

    @initialize(rates=st.lists(RATES, min_size=5, max_size=5))
    def begin(self, rates: list[Rate]) -> None:
        self.clock = Clock()
        self.limiter = RateLimiter(REMEMBERED, self.clock)
        self.rates = dict(zip("abcde", rates, strict=True))
        self.buckets: dict[str, Bucket] = {}  # the longest idle first

    def touched(self, name: str) -> Bucket:
        """The bucket, now the last to be forgotten."""
        known = self.buckets.pop(name) if name in self.buckets else Bucket(self.rates[name], self.clock.now)
        self.buckets[name] = known
        if len(self.buckets) > REMEMBERED:
            del self.buckets[next(iter(self.buckets))]
        return self.buckets[name]

    @rule(eighths=st.integers(0, 64))
    def time_passes(self, eighths: int) -> None:
        self.clock.now += eighths / 8
        for bucket in self.buckets.values():
            bucket.fill(self.clock.now)

    @rule(name=KEYS, times=st.integers(1, 12))
    def ask(self, name: str, times: int) -> None:
        for _ in range(times):
            bucket = self.touched(name)
            wait = bucket.wait
            assert self.limiter.admit(name, self.rates[name]) == float(wait)
            bucket.tokens -= not wait

    @rule(name=KEYS, quarters=st.integers(1, 48))
    def spend_on_credit(self, name: str, quarters: int) -> None:
        self.limiter.charge(name, self.rates[name], quarters / 4)
        bucket = self.touched(name)
        bucket.tokens = max(Fraction(-1), bucket.tokens - Fraction(quarters, 4))

    @rule(name=KEYS, eighths=st.integers(0, 80))
    def hear_of_it(self, name: str, eighths: int) -> None:
        self.limiter.learn(name, eighths / 8)
        bucket = self.touched(name)
        bucket.tokens = bucket.burst - Fraction(eighths, 8) * bucket.rate

    @rule(name=KEYS)
    def look(self, name: str) -> None:
        """Who would be refused is not idle; asking changes nothing else."""
        wait = self.buckets[name].wait if name in self.buckets else Fraction(0)
        assert self.limiter.wait(name, self.rates[name]) == float(wait)
        if wait:
            self.touched(name)

    @invariant()
    def no_more_is_remembered(self) -> None:
        if hasattr(self, "limiter"):
            assert len(self.limiter) == len(self.buckets) <= REMEMBERED

    def teardown(self) -> None:
        for name in "abcde":
            self.look(name)


TestModel = Model.TestCase


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_who_waits_as_long_as_told_is_admitted(per_minute: int, burst: int) -> None:
    clock = Clock()
    limiter, rate = RateLimiter(1, clock), Rate(per_minute, burst)
    assert [limiter.admit("a", rate) for _ in range(burst)] == [0.0] * burst
    for _ in range(20):
        wait = limiter.admit("a", rate)
        assert 0 < wait <= 60 / per_minute + 1e-6
        assert limiter.admit("a", rate) == wait  # a refusal costs nothing
        assert limiter.wait("a", rate) == wait
        clock.now += wait
        assert limiter.wait("a", rate) == 0.0
        assert limiter.admit("a", rate) == 0.0


def test_however_much_was_spent_the_debt_is_one_token() -> None:
    limiter, rate = RateLimiter(1, Clock()), Rate(60, 5)
    for _ in range(1000):
        limiter.charge("a", rate)
    assert limiter.wait("a", rate) == pytest.approx(2.0)


def test_asking_leaves_no_trace() -> None:
    limiter, rate = RateLimiter(10, Clock()), Rate(60, 5)
    for number in range(100):
        assert limiter.wait(number, rate) == 0.0
    assert len(limiter) == 0


def test_memory_is_bounded_and_the_longest_idle_is_forgotten() -> None:
    clock = Clock()
    limiter, rate = RateLimiter(100, clock), Rate(1, 1)
    assert limiter.admit("busy", rate) == 0.0
    for number in range(10_000):
        clock.now += 0.001
        assert limiter.admit(number, rate) == 0.0
        assert limiter.admit("busy", rate) > 0
    assert len(limiter) == 100
    assert limiter.admit(0, rate) == 0.0


@pytest.mark.parametrize("arguments", [(0, 1), (1, 0)])
def test_a_limit_of_nothing_is_a_mistake(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Rate(*arguments)


def test_a_memory_of_nobody_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RateLimiter(0)
