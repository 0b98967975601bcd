"""A circuit breaker: after repeated failures nobody tries for a while, then one probe does.

It decides who may attempt, and when; it makes no attempt, starts no timer and
knows nothing of what is attempted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Final

THRESHOLD: Final = 5
"""Consecutive failures that open the breaker."""
FIRST_PAUSE: Final = 0.1
CAP: Final = 5.0
PERMANENT_CAP: Final = 30.0
"""Longest pause where trying again does not help by itself, such as a refused login: it can lock the account."""


class State(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Everything; after a failure, not before a pause."""
    OPEN = "open"
    """Nothing, until the pause is over."""
    HALF_OPEN = "half-open"
    """One probe, which is under way."""


class Breaker:
    """The state of one thing that is tried again and again.

    Pauses double from 100 ms to 5 s (30 s where the failure is permanent), with
    jitter in their upper half, so that many gateways do not knock together.

    Args:
        clock: seconds that never run backwards.
        threshold: consecutive failures that open it.
        on_change: told the new state.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        threshold: int = THRESHOLD,
        on_change: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._on_change = on_change
        self._until = 0.0
        self._pause = 0.0
        self.failures = 0
        self.state = State.CLOSED

    @property
    def wait(self) -> float:
        """Seconds until the next attempt may begin; while a probe runs, those until another might."""
        if self.state is State.HALF_OPEN:
            return self._pause
        return max(0.0, self._until - self._clock())

    def begin(self) -> bool:
        """Whether an attempt may begin now; who is told yes must tell how it ended."""
        if self.state is State.HALF_OPEN or self.wait > 0.0:
            return False
        if self.state is State.OPEN:
            self._become(State.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        """An attempt went well: everything may pass again."""
        self.failures = 0
        self._until = self._pause = 0.0
        self._become(State.CLOSED)

    def failed(self, *, is_transient: bool = True) -> None:
        """An attempt failed. Those that fail during the pause after another began with it, and count once.

        Args:
            is_transient: whether the same attempt may succeed later by itself; else it opens at once.
        """
        if self.state is not State.HALF_OPEN and self.wait > 0.0:
            return
        cap = CAP if is_transient else PERMANENT_CAP
        self._pause = min(cap, FIRST_PAUSE * 2 ** min(self.failures, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self._until = self._clock() + self._pause
        self.failures += 1
        if self.state is State.HALF_OPEN or self.failures >= self._threshold or not is_transient:
            self._become(State.OPEN)

    def abandoned(self) -> None:
        """An attempt ended without a result: another may begin."""
        if self.state is State.HALF_OPEN:
            self._become(State.OPEN)

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state)
