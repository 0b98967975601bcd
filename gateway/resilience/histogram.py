"""A distribution in plain numbers: cheap to add to, read by whoever shows it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds for durations: the ones OpenTelemetry advises, with finer ones below and those of long calls above."""


class Histogram:
    """Counts between bounds, and their sum. Adding one takes a fraction of a microsecond; one thread adds.

    Attributes:
        bounds: upper bounds, inclusive, rising.
        counts: one number for each bound, and one for what is beyond the last.
        total: the sum of everything added.

    Args:
        bounds: see above.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """How many were added."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def __add__(self, other: Histogram) -> Histogram:
        """Two distributions over the same bounds as one."""
        both = Histogram(self.bounds)
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both.total = self.total + other.total
        return both
