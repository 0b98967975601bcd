"""Bounded memory with expiry, against a simple model; and the arithmetic of verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.cache import ExpiringCache, good_until
from gateway.config.auth import VerdictCacheSettings
from tests.auth.provider import Clock

NOW = 1_800_000_000.0


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


_steps = st.lists(
    st.tuples(st.just("put"), st.sampled_from(b"abcdef"), st.integers(-2, 8))
    | st.tuples(st.just("get"), st.sampled_from(b"abcdef"), st.just(0))
    | st.tuples(st.just("drop"), st.sampled_from(b"abcdef"), st.just(0))
    | st.tuples(st.just("wait"), st.just(0), st.integers(0, 4))
)


@given(st.integers(1, 4), _steps)
def test_it_behaves_like_a_list_of_entries(size: int, steps: list[tuple[str, int, int]]) -> None:
    clock = Clock(100.0)
    cache: ExpiringCache[int] = ExpiringCache(size, clock)
    model: list[tuple[int, float, int]] = []  # oldest use first: key, until, value
    for number, (step, key, amount) in enumerate(steps):
        name = bytes([key])
        if step == "wait":
            clock.now += amount
        elif step == "put":
            cache.put(name, number, clock.now + amount)
            if amount > 0:
                model = [*(entry for entry in model if entry[0] != key), (key, clock.now + amount, number)][-size:]
        elif step == "drop":
            cache.drop(name)
            model = [entry for entry in model if entry[0] != key]
        else:
            held = [entry for entry in model if entry[0] == key]
            model = [entry for entry in model if entry[0] != key]
            alive = [entry for entry in held if entry[1] > clock.now]
            model += alive
            assert cache.get(name) == (alive[0][2] if alive else None)
        assert len(cache) <= size
