"""What the gateway holds, noted each second, and whether that stays the same."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench import machine
from tests.soak.service import Service

_SESSIONS: Final = "select count(*) from pg_stat_activity where application_name like 'mcp-database-gateway%'"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One thing that is held.

    Attributes:
        name: with its unit.
        bound: the most by which the trend of its ebbs may grow over the second half.
    """

    name: str
    bound: float


MEMORY: Final = Quantity("resident memory, MB", 2.0)
"""Half an hour's second half is 36,000 calls at the usual rate: 55 bytes a call would show. Less is the allocator's,
which keeps what the largest crowd so far has needed."""
DESCRIPTORS: Final = Quantity("open descriptors", 5.0)
SESSIONS: Final = Quantity("database connections", 2.0)
QUANTITIES: Final = (MEMORY, DESCRIPTORS, SESSIONS)


_EBBS: Final = 30
"""Into so many stretches the second half is cut; the least of each is what was held when the load ebbed."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How a quantity went.

    Attributes:
        quantity: which.
        first: median of the first tenth of the run.
        median: of the second half.
        last: median of the last tenth.
        most: largest sample.
        growth: of the straight line through the ebbs of the second half, from its begin to its end.
    """

    quantity: Quantity
    first: float
    median: float
    last: float
    most: float
    growth: float

    @property
    def is_flat(self) -> bool:
        """Whether it grew by no more than it may; what shrinks leaks nothing."""
        return self.growth <= self.quantity.bound


def trend(quantity: Quantity, seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Judge the second half; in the first caches fill, and pools and the allocator find their size.

    Calls under way hold things too, more of them when the machine is slow. A leak shows in what is left between them.
    """
    half, tenth = len(values) // 2, max(1, len(values) // 10)
    later, times = values[half:], seconds[half:]
    size = -(-len(later) // _EBBS)
    ebbs = [min(later[first : first + size]) for first in range(0, len(later), size)]
    middles = [statistics.mean(times[first : first + size]) for first in range(0, len(later), size)]
    slope = statistics.linear_regression(middles, ebbs).slope if len(ebbs) > 1 else 0.0
    first, median, last = (statistics.median(part) for part in (values[:tenth], later, values[-tenth:]))
    return Trend(quantity, first, median, last, max(values), slope * (times[-1] - times[0]))


@dataclass
class Watch:
    """Samples of one run.

    Attributes:
        service: what is watched.
        seconds: when each sample was taken, since the start.
        samples: of each quantity.
    """

    service: Service
    seconds: list[float] = field(default_factory=list)
    samples: dict[Quantity, list[float]] = field(default_factory=lambda: {each: [] for each in QUANTITIES})

    async def run(self, interval: float = 1.0) -> None:
        """Take samples until cancelled."""
        admin = await self.service.world.postgresql.admin()
        started = time.monotonic()
        try:
            while True:
                await self._sample(admin, time.monotonic() - started)
                await asyncio.sleep(interval)
        finally:
            admin.terminate()

    async def _sample(self, admin: Any, now: float) -> None:
        pid = self.service.server.pid
        descriptors = len(list((Path("/proc") / str(pid) / "fd").iterdir()))
        self.seconds.append(now)
        self.samples[MEMORY].append(machine.resident_mb(pid))
        self.samples[DESCRIPTORS].append(descriptors)
        self.samples[SESSIONS].append(await admin.fetchval(_SESSIONS))

    def trends(self) -> list[Trend]:
        """One for each quantity."""
        return [trend(quantity, self.seconds, values) for quantity, values in self.samples.items()]


@dataclass(frozen=True, slots=True)
class Log:
    """What the gateway wrote meanwhile.

    Attributes:
        lines: all.
        faults: errors, but for those about the broken configurations that it was given.
    """

    lines: int
    faults: Sequence[str]


_REFUSED: Final = "the configuration stays as it was"


def read_log(path: Path) -> Log:
    """Look through a log file."""
    count, faults = 0, list[str]()
    with path.open(errors="replace") as file:
        for line in file:
            count += 1
            if ('"level":"error"' in line and _REFUSED not in line) or "Traceback" in line:
                faults.append(line[:500])
    return Log(count, faults)
