"""The gateway under a sampling profiler: `python -m tests.bench.sampler FILE serve --config ...`.

Every few milliseconds of CPU time the stack of the main thread is noted. SIGUSR1 begins anew, SIGUSR2 writes the
counts into FILE. A sample belongs to the innermost frame that is not the standard library's.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from gateway.cli.main import main

INTERVAL: Final = 0.002
_STDLIB: Final = str(Path(json.__file__).parents[1])
_PACKAGES: Final = "site-packages"
_ROOT: Final = str(Path(__file__).parents[2])


class Sampler:
    """Counts stacks while the process works; an idle process is not sampled."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._places: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._clear)
        signal.signal(signal.SIGUSR2, self._write)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        self._places[_place(frame)] += 1

    def _clear(self, _: int, __: FrameType | None) -> None:
        self._places.clear()

    def _write(self, _: int, __: FrameType | None) -> None:
        counts = [[module, function, count] for (module, function), count in self._places.items()]
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(counts))
        partial.rename(self._file)


def _place(frame: FrameType | None) -> tuple[str, str]:
    """The file, from its package on, and the function that the time belongs to."""
    while frame is not None:
        name = frame.f_code.co_filename
        if _PACKAGES in name:
            return name.partition(f"{_PACKAGES}/")[2], frame.f_code.co_qualname
        if name.startswith(_ROOT):
            return name.removeprefix(f"{_ROOT}/"), frame.f_code.co_qualname
        # The log is a stage of its own, and lives in the standard library.
        if name.startswith(_STDLIB) and "/logging/" in name:
            return "logging", frame.f_code.co_qualname
        frame = frame.f_back
    return "loop", ""


if __name__ == "__main__":
    Sampler(Path(sys.argv[1])).start()
    sys.exit(main(sys.argv[2:]))
