"""Retry as a value: exponential pauses with full jitter, few attempts, and never past a deadline.

First pause up to 100 ms, doubled, at most 5 s, at most five attempts: the
paper's figures, and full jitter so that callers who failed together do not
come back together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import backoff

T = TypeVar("T")


class Patience:
    """Seconds of waiting that are left, shared by all attempts at one thing."""

    __slots__ = ("left",)

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def spend(self, seconds: float) -> None:
        """Take off what was waited; never below zero."""
        self.left = max(0.0, self.left - seconds)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently something is tried again.

    Attributes:
        attempts: all of them, the first included.
        first: the upper bound of the first pause, in seconds.
        cap: the upper bound of every pause, in seconds.
    """

    attempts: int = 5
    first: float = 0.1
    cap: float = 5.0

    async def run(
        self,
        attempt: Callable[[], Awaitable[T]],
        earliest: Callable[[Exception], float | None],
        remaining: Callable[[], float],
        on_retry: Callable[[int, Exception, float], None] = lambda *_: None,
    ) -> T:
        """The first success, or the last failure.

        Args:
            attempt: what to do.
            earliest: seconds before which another attempt cannot succeed; None when none can.
            remaining: seconds left; a pause that does not fit ends the attempts.
            on_retry: told the number of the attempt that failed, why, and the pause that follows.
        """
        pauses: Iterator[float] | None = None
        for number in range(1, self.attempts):
            try:
                return await attempt()
            except Exception as error:
                least = earliest(error)
                if least is None:
                    raise
                if pauses is None:
                    pauses = backoff.expo(base=2, factor=self.first, max_value=self.cap)
                    next(pauses)  # the generator's own first step gives nothing
                pause = least + backoff.full_jitter(next(pauses))
                if pause >= remaining():
                    raise
                on_retry(number, error, pause)
                await asyncio.sleep(pause)
        return await attempt()
