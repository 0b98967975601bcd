"""Retry as a value: exponential pauses with full jitter, few attempts, and never past a deadline.

First pause up to 100 ms, doubled, at most 5 s, at most five attempts: the
paper's figures, and full jitter so that callers who failed together do not
come back together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import backoff

T = TypeVar("T")


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
        may_retry: Callable[[Exception], bool],
        remaining: Callable[[], float],
        on_retry: Callable[[int, Exception], None] = lambda _, __: None,
    ) -> T:
        """The first success, or the last failure.

        Args:
            attempt: what to do.
            may_retry: whether a failure is worth another attempt.
            remaining: seconds left; a pause that does not fit ends the attempts.
            on_retry: told the number of the attempt that failed, and why, before each pause.
        """
        pauses = backoff.expo(base=2, factor=self.first, max_value=self.cap)
        next(pauses)  # the generator's own first step gives nothing
        for number in range(1, self.attempts):
            try:
                return await attempt()
            except Exception as error:
                pause = backoff.full_jitter(next(pauses))
                if not may_retry(error) or pause >= remaining():
                    raise
                on_retry(number, error)
                await asyncio.sleep(pause)
        return await attempt()
