"""Bounded memory with expiry, against a simple model; and the arithmetic of verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.auth.cache import ExpiringCache, good_until
from gateway.config.auth import VerdictCacheSettings
from tests.auth.provider import Clock

NOW = 1_800_000_000.0
KEYS = st.sampled_from(b"abcde").map(lambda letter: bytes([letter]))


@pytest.mark.parametrize(
    ("life", "cached"),
    [
        (3600, 3300),  # five minutes before its end
        (86400, 3300),  # max_age
        (1500, 1200),  # a fifth of 1500 is five minutes: both rules agree
        (1000, 800),  # four fifths
        (60, 48),
        (0.5, 0.4),
        (0, 0),
        (-20, -20),  # within leeway, yet never remembered
    ],
)
def test_how_long_a_verdict_is_believed(life: float, cached: float) -> None:
    assert good_until(NOW, NOW + life, VerdictCacheSettings()) == pytest.approx(NOW + cached)


@given(
    st.floats(-60, 1e6),
    st.floats(0.1, 1e5).map("{:.3f}s".format),
    st.floats(0, 1e5).map("{:.3f}s".format),
)
def test_a_verdict_never_outlives_its_token(life: float, max_age: str, buffer: str) -> None:
    settings = VerdictCacheSettings.model_validate({"max_age": max_age, "expiry_buffer": buffer})
    until = good_until(NOW, NOW + life, settings)
    assert until <= NOW + life
    assert until <= NOW + settings.max_age
    if life > 0:
        assert until - NOW >= min(settings.max_age, life * 0.8) - 1e-6


def test_what_is_over_already_takes_no_room() -> None:
    cache: ExpiringCache[str] = ExpiringCache(1, Clock(100.0))
    cache.put(b"good", "good", 101.0)
    cache.put(b"late", "late", 100.0)
    assert cache.get(b"good") == "good"
    assert len(cache) == 1


class Machine(RuleBasedStateMachine):
    """The memory beside a list of entries, the longest unused first."""

    @initialize(size=st.integers(1, 4))
    def open(self, size: int) -> None:
        self.size = size
        self.clock = Clock(100.0)
        self.cache: ExpiringCache[int] = ExpiringCache(size, self.clock)
        self.entries: list[tuple[bytes, float, int]] = []
        self.count = 0

    def take_out(self, key: bytes) -> list[tuple[bytes, float, int]]:
        found = [entry for entry in self.entries if entry[0] == key]
        self.entries = [entry for entry in self.entries if entry[0] != key]
        return found

    @rule(key=KEYS, life=st.sampled_from([-2, 0, 1, 3, 60, 60, 60]))
    def put(self, key: bytes, life: int) -> None:
        self.count += 1
        until = self.clock.now + life
        self.cache.put(key, self.count, until)
        if life > 0:
            self.take_out(key)
            self.entries = [*self.entries, (key, until, self.count)][-self.size :]

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        alive = [entry for entry in self.take_out(key) if entry[1] > self.clock.now]
        self.entries += alive
        assert self.cache.get(key) == (alive[0][2] if alive else None)

    @rule(key=KEYS)
    def drop(self, key: bytes) -> None:
        self.cache.drop(key)
        self.take_out(key)

    @rule(seconds=st.sampled_from([0, 1, 2, 60]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def no_more_is_held(self) -> None:
        if hasattr(self, "cache"):
            assert len(self.cache) == len(self.entries) <= self.size


TestMachine = Machine.TestCase
