"""The process itself in numbers: event loop, CPU, memory, files, build."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.resilience.histogram import Histogram
from gateway.telemetry import instruments as known
from gateway.telemetry import logs
from gateway.telemetry.instruments import Reading

_log: Final = logging.getLogger("gateway.telemetry")
REMARKABLE: Final = 1.0
"""Seconds of lag that are logged; no call is served meanwhile."""
_INTERVAL: Final = 0.25
_STARTED: Final = time.time()
_STATM: Final = Path("/proc/self/statm")
_FILES: Final = Path("/proc/self/fd")


class LoopLag:
    """Measures how late the event loop calls back."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure while the block runs."""
        self._arm()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _arm(self) -> None:
        self._due = time.perf_counter() + _INTERVAL
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._called)

    def _called(self) -> None:
        late = max(0.0, time.perf_counter() - self._due)
        self.histogram.add(late)
        if late >= REMARKABLE:
            _log.warning("the event loop stood still", extra={"seconds": round(late, 2)})
        self._arm()

    def read(self) -> Iterator[Reading]:
        """The distribution."""
        yield Reading(known.LOOP_LAG, (), self.histogram)


def read_process() -> Iterator[Reading]:
    """CPU, memory, files, build and lost log lines of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield Reading(known.CPU, (), usage.ru_utime + usage.ru_stime)
    yield Reading(known.MEMORY, (), _resident(usage.ru_maxrss))
    if _FILES.is_dir():
        yield Reading(known.FILES, (), sum(1 for _ in _FILES.iterdir()))
    yield Reading(known.STARTED, (), _STARTED)
    yield Reading(known.LOG_MISSED, (), logs.missed())
    yield Reading(known.BUILD, (__version__, platform.python_version()), 1)


def _resident(most: int) -> int:
    """Resident memory now in bytes; the most it ever was where the system does not tell (macOS counts in bytes)."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return most if sys.platform == "darwin" else most * 1024
