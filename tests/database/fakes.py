"""Instruments for testing the pool: an engine whose faults are written down, and a loop whose time flies."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.context import Report
from gateway.database.engine import Column, Statement, Table
from gateway.database.failures import failure
from gateway.errors import Code, ToolError

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer when nothing else is left to do."""

    virtual = 0.0

    def time(self) -> float:
        return self.virtual

    def _run_once(self) -> None:
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self.virtual = max(self.virtual, timers[0]._when)
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in no time; nothing may be left over."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(work)
        left = asyncio.all_tasks(runner.get_loop())
        assert not left, left
        return result


@dataclass(frozen=True)
class Fault:
    """What one operation does: takes its time, then fails or not; `is_deaf` ignores cancellation."""

    seconds: float = 0.0
    is_failing: bool = False
    is_deaf: bool = False

    async def happen(self) -> None:
        if self.is_deaf:
            until = asyncio.get_running_loop().time() + self.seconds
            while (left := until - asyncio.get_running_loop().time()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    continue
        else:
            await asyncio.sleep(self.seconds)
        if self.is_failing:
            raise ConnectionError("as written")


@dataclass
class Script:
    """The faults of an engine, in order; after the last everything goes well at once."""

    connects: list[Fault] = field(default_factory=list)
    cares: list[Fault] = field(default_factory=list)


class FakeConnection:
    """A connection that notices every misuse."""

    def __init__(self, engine: FakeEngine, number: int) -> None:
        self.engine = engine
        self.number = number
        self.is_closed = False
        self.is_broken = False
        self.is_committing = False
        self.needs_reset = False
        self.is_used = False
        self.is_soiled = False
        self.resets = 0
        self.pings = 0

    async def _care(self) -> None:
        assert not self.is_used
        script = self.engine.script
        await (script.cares.pop(0) if script.cares else Fault()).happen()

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        return ()

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        return Table((), ())

    async def ping(self) -> None:
        self.pings += 1
        await self._care()
        if self.is_broken:
            raise ConnectionError("nobody answers")

    async def reset(self) -> None:
        self.resets += 1
        await self._care()
        self.needs_reset = False
        self.is_soiled = False

    async def close(self) -> None:
        await self._care()
        self.abort()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.engine.gone()

    def die(self) -> None:
        """The peer closes the socket."""
        self.abort()


class FakeEngine:
    """Counts what is open, from the first attempt to the last goodbye."""

    dialect = "sqlite"

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.open = 0
        self.most = 0
        self.connections: list[FakeConnection] = []

    def placeholder(self, position: int, name: str) -> str:
        return f"?{position}"

    async def connect(self) -> FakeConnection:
        await (self.script.connects.pop(0) if self.script.connects else Fault()).happen()
        self.open += 1
        self.most = max(self.most, self.open)
        connection = FakeConnection(self, len(self.connections))
        self.connections.append(connection)
        return connection

    def gone(self) -> None:
        self.open -= 1

    def translate(self, error: BaseException) -> ToolError:
        assert isinstance(error, ConnectionError), repr(error)
        return failure(Code.SOURCE_UNAVAILABLE, str(error))
