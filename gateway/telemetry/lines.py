"""Lines written by a thread of their own, so that a slow or blocked reader of the log stops no call.

What waits is bounded; what does not fit is left out and counted in a line of its own. The thread
gathers for some milliseconds, so that many calls cost one write.
"""

from __future__ import annotations

import io
import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

MAX_LINES: Final = 10_000
"""Lines that may wait; an ordinary one is some 300 bytes."""
GATHER: Final = 0.01
"""Seconds for which lines are gathered."""
_AT_ONCE: Final = 500
GRACE: Final = 2.0
"""Seconds that the last lines have at the end."""


class Lines(io.TextIOBase):
    """A stream to write lines to without waiting, from any thread.

    Args:
        file: the descriptor where they go. It is written to directly: a thread that waits in a buffered
            stream would hold its lock, and keep the process from ending.
        lost: the line, with its end, that says how many were left out.
        max_lines: how many may wait.

    Attributes:
        missed: lines that were left out, ever.
    """

    def __init__(self, file: int, lost: Callable[[int], str], max_lines: int = MAX_LINES) -> None:
        self._file = file
        self._lost = lost
        self._max_lines = max_lines
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._left_out = self.missed = 0
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Take one line, with its end."""
        if self._waiting.qsize() < self._max_lines:
            self._waiting.put(text)
        else:
            self._left_out += 1
            self.missed += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: lines are written as soon as they can be."""

    def finish(self, grace: float = GRACE) -> None:
        """Write what waits, as far as its reader takes it within `grace` seconds; nothing is taken after this."""
        self._waiting.put(None)
        self._thread.join(grace)

    def _work(self) -> None:
        is_over = False
        while not is_over:
            lines = [self._waiting.get()]
            # Not `time.sleep`: it waits for a point in time, which the system may refuse when clocks are moved.
            select.select((), (), (), GATHER)
            lines += [self._waiting.get() for _ in range(min(self._waiting.qsize(), _AT_ONCE))]
            is_over = None in lines
            self._write([line for line in lines if line is not None])

    def _write(self, lines: list[str]) -> None:
        """Write; a reader that has gone takes nothing, and nobody could be told."""
        left_out, self._left_out = self._left_out, 0
        if left_out:
            lines.append(self._lost(left_out))
        data = memoryview("".join(lines).encode(errors="backslashreplace"))
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            pass
