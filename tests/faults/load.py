"""A steady load: agents that read what they know, write what nobody wrote before, and remember every outcome."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import Code
from tests.database.support import until
from tests.faults.backends import FACTS, Backend, label
from tests.faults.calls import HUNG, LOST, OK, WRONG, Agent, Outcome

PAUSE: Final = 0.03
"""Seconds between an answer and the next call of the same worker."""
STREAK: Final = 3
"""Right answers in a row after which a worker is well."""
UNKNOWN: Final = frozenset({Code.OUTCOME_UNKNOWN.value, LOST, HUNG})
"""Outcomes after which a write may have been made, or not; after every other failure it must not."""


@dataclass
class Writes:
    """What was written, held against what callers were told.

    Attributes:
        lost: told to be made, and not there.
        doubled: there more than once.
        phantoms: told to have failed with nothing changed, and there.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        return len(self.lost) + len(self.doubled) + len(self.phantoms)


@dataclass
class Worker:
    """One caller of one tool, again and again."""

    tool: str
    agent: Agent
    streak: int = 0
    streak_began: float = 0.0

    @property
    def source(self) -> str:
        return self.tool.rpartition("_")[0]


class Load:
    """Workers for every source, until it is stopped.

    Args:
        agents: who calls; they take turns.
        sources: what is called; of each, two reads, a slow read, a plain write and an idempotent one at a time.
    """

    kinds: Sequence[str] = ("read", "read", "linger", "note", "keep")

    def __init__(self, agents: Sequence[Agent], sources: Iterable[str]) -> None:
        self.outcomes: list[Outcome] = []
        turns = itertools.cycle(agents)
        self.workers = [Worker(f"{source}_{kind}", next(turns)) for source in sources for kind in self.kinds]
        self._name, self._keys = secrets.token_hex(6), itertools.count(1)
        self._ids = itertools.cycle(range(1, FACTS + 1))
        self._goes = asyncio.Event()
        self._busy = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Have everybody wait for `running`."""
        self._tasks = [asyncio.create_task(self._work(worker)) for worker in self.workers]

    async def stop(self) -> None:
        """End after the calls that are under way."""
        await self.pause()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def pause(self) -> None:
        """Send nothing, once the calls under way have ended."""
        self._goes.clear()
        await until(lambda: not self._busy, 60)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Calls are made in the block, and have ended after it."""
        self._goes.set()
        try:
            yield
        finally:
            await self.pause()

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Within `running`: nothing is called in the block."""
        await self.pause()
        try:
            yield
        finally:
            self._goes.set()

    async def _work(self, worker: Worker) -> None:
        while True:
            await self._goes.wait()
            self._busy += 1
            try:
                outcome = await self._call(worker)
            finally:
                self._busy -= 1
            self.outcomes.append(outcome)
            if outcome.word != OK:
                worker.streak = 0
            else:
                worker.streak_began = worker.streak_began if worker.streak else outcome.ended
                worker.streak += 1
            await asyncio.sleep(PAUSE)

    async def _call(self, worker: Worker) -> Outcome:
        if worker.tool.endswith(("note", "keep")):
            return await worker.agent.call(worker.tool, {"key": f"{self._name}-{next(self._keys)}"})
        number = next(self._ids)
        return await worker.agent.call(worker.tool, {"id": number}, [{"id": number, "label": label(number)}])

    async def until_well(self, since: float, sources: Iterable[str], within: float) -> float:
        """Wait until every worker of these sources is well again; seconds from `since` until the last one was."""
        wanted = [worker for worker in self.workers if worker.source in set(sources)]
        limit = time.monotonic() + within
        while ill := [worker for worker in wanted if not (worker.streak >= STREAK and self._is_over(worker, since))]:
            assert time.monotonic() < limit, f"not healed: {[worker.tool for worker in ill]}; {self.last(5)}"
            await asyncio.sleep(0.01)
        return max(0.0, *(worker.streak_began - since for worker in wanted))

    def _is_over(self, worker: Worker, since: float) -> bool:
        """Whether some of its right answers came to calls that began after that moment."""
        mine = next((each for each in reversed(self.outcomes) if each.tool == worker.tool), None)
        return mine is not None and mine.began >= since

    def last(self, count: int) -> list[str]:
        """The last failures, for a message."""
        failed = [each for each in self.outcomes if each.word != OK]
        return [f"{each.tool}: {each.word} {each.message}" for each in failed[-count:]]


def counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How many calls ended in each way."""
    return Counter(outcome.word for outcome in outcomes)


async def check_writes(outcomes: Iterable[Outcome], backends: Iterable[Backend]) -> Writes:
    """Hold what the databases contain against what the callers were told."""
    writes = Writes()
    found: dict[str, Counter[str]] = {}
    for backend in backends:
        for table in ("note", "keep"):
            found[f"{backend.name}_{table}"] = await backend.written("kept" if table == "keep" else table)
    for outcome in outcomes:
        if not outcome.key or outcome.tool not in found:
            continue
        count = found[outcome.tool][outcome.key]
        if count > 1:
            writes.doubled.append(outcome.key)
        elif outcome.word in (OK, WRONG) and not count:
            writes.lost.append(outcome.key)
        elif count and outcome.word not in (OK, WRONG) and outcome.word not in UNKNOWN:
            writes.phantoms.append(f"{outcome.key} ({outcome.word})")
    return writes


def longest(outcomes: Iterable[Outcome]) -> float:
    """The longest that any call took, in seconds."""
    return max((outcome.took for outcome in outcomes), default=0.0)
