"""What fuzzers and fault tests count, shown at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

Tally = Callable[[str], None]
"""Takes one line: rounds played, faults made, what came of them."""

LINES: list[str] = []
