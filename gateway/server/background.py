"""Work that outlives its client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from gateway.tools.results import ToolResult

_LOOK_AT_DEADLINE: Final = 0.5


class Background:
    """Work that outlives its client: a write, once begun, is seen through for clients before 2026-07-28.

    Attributes:
        deadline: the event loop's time until which `drain` waits; set when the process begins to stop.
    """

    def __init__(self) -> None:
        self.deadline = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def see_through(self, work: Coroutine[Any, Any, ToolResult]) -> ToolResult:
        """Run to the end even when the awaiting request is cancelled."""
        task = asyncio.create_task(work)
        self.adopt(task)
        return await asyncio.shield(task)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task, too."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until the deadline for what still runs, then cancel it."""
        now = asyncio.get_running_loop().time
        while self._tasks and (left := self.deadline - now()) > 0:
            await asyncio.wait(self._tasks, timeout=min(left, _LOOK_AT_DEADLINE))  # which may come nearer meanwhile
        late = tuple(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
