"""The breaker against a simple model, whatever is done to it in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.resilience.breaker import CAP, FIRST_PAUSE, PERMANENT_CAP, Breaker, State


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Model(RuleBasedStateMachine):
    """Written from the outside: a count of failures, a moment, and whether a probe runs."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.seen: list[State] = []
        self.breaker = Breaker(self.clock, threshold=3, on_change=self.seen.append)
        self.running = 0
        self.failures = 0
        self.blocked_until = 0.0
        self.is_open = False
        self.is_probing = False

    @rule(seconds=st.floats(0.0, 40.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def the_pause_ends(self) -> None:
        if not self.is_probing:
            self.clock.now += self.breaker.wait

    @rule()
    def begin(self) -> None:
        may = self.clock.now >= self.blocked_until and not self.is_probing
        assert self.breaker.begin() is may
        if may:
            self.running += 1
            self.is_probing = self.is_open

    @precondition(lambda self: self.running)
    @rule()
    def succeed(self) -> None:
        self.running -= 1
        self.breaker.succeeded()
        self.failures, self.blocked_until, self.is_open, self.is_probing = 0, 0.0, False, False

    @precondition(lambda self: self.running)
    @rule(is_transient=st.booleans())
    def fail(self, is_transient: bool) -> None:
        self.running -= 1
        self.breaker.failed(is_transient=is_transient)
        if self.clock.now < self.blocked_until and not self.is_probing:
            return  # one of a wave that was counted
        pause = self.breaker.wait
        bound = min(CAP if is_transient else PERMANENT_CAP, FIRST_PAUSE * 2 ** min(self.failures, 16))
        assert bound / 2 - 1e-9 <= pause <= bound + 1e-9
        self.blocked_until = self.clock.now + pause
        self.failures += 1
        self.is_open = self.is_open or self.failures >= 3 or not is_transient
        self.is_probing = False

    @precondition(lambda self: self.running)
    @rule()
    def abandon(self) -> None:
        self.running -= 1
        self.breaker.abandoned()
        self.is_probing = False

    @invariant()
    def the_state_is_the_models(self) -> None:
        expected = State.HALF_OPEN if self.is_probing else State.OPEN if self.is_open else State.CLOSED
        assert self.breaker.state is expected
        assert 0.0 <= self.breaker.wait <= PERMANENT_CAP

    @invariant()
    def changes_are_told_once(self) -> None:
        assert all(before is not after for before, after in zip(self.seen, self.seen[1:], strict=False))
        assert (self.seen[-1] if self.seen else State.CLOSED) is self.breaker.state


TestModel = Model.TestCase


def broken(clock: Clock, failures: int) -> tuple[Breaker, list[float]]:
    breaker = Breaker(clock)
    pauses = []
    for _ in range(failures):
        assert breaker.begin()
        breaker.failed()
        pauses.append(breaker.wait)
        clock.now += breaker.wait + 1e-6
    return breaker, pauses


def test_five_failures_in_a_row_open_it() -> None:
    assert broken(Clock(), 4)[0].state is State.CLOSED
    assert broken(Clock(), 5)[0].state is State.OPEN


def test_pauses_grow_to_a_cap() -> None:
    _, pauses = broken(Clock(), 12)
    for pause, bound in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * 6], strict=True):
        assert bound / 2 <= pause <= bound


def test_a_refused_login_opens_it_at_once() -> None:
    breaker = Breaker(Clock())
    assert breaker.begin()
    breaker.failed(is_transient=False)
    assert breaker.state is State.OPEN
    assert not breaker.begin()


def test_one_probe_at_a_time() -> None:
    clock = Clock()
    breaker, pauses = broken(clock, 5)
    assert breaker.begin()
    assert breaker.state is State.HALF_OPEN
    assert not breaker.begin()
    assert breaker.wait == pytest.approx(pauses[-1])
    breaker.succeeded()
    assert breaker.begin()
    assert breaker.begin()
