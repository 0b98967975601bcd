"""What runs, and until when it may: requests, and what outlives their clients."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_LOOK_AT_DEADLINE: Final = 0.5


class Background:
    """What runs, and what outlives its client: a write, once begun, is seen through for clients before 2026-07-28.

    Attributes:
        deadline: the event loop's time until which `drain` waits; set when the process begins to stop.
        is_over: nothing is waited for any more; requests that are cancelled from now on are told so.
    """

    def __init__(self) -> None:
        self.deadline = 0.0
        self.is_over = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._requests: set[asyncio.Task[Any] | None] = set()

    def enter(self, request: asyncio.Task[Any] | None) -> None:
        """A request runs in this task, which answers when it is cancelled while `is_over`."""
        self._requests.add(request)

    def leave(self, request: asyncio.Task[Any] | None) -> None:
        """It has its answer, which may yet have to be sent."""
        self._requests.discard(request)
        if self.is_over and request is not None:
            request.uncancel()

    def stop(self, deadline: float) -> None:
        """Begin to stop: what still runs at the deadline is cut, and answered."""
        self.deadline = deadline
        asyncio.get_running_loop().call_at(deadline, self.cut)

    def cut(self) -> None:
        """Let every request that runs be answered now."""
        if not self.is_over:
            self.is_over = True
            for request in filter(None, tuple(self._requests)):
                request.cancel()

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
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
        self.cut()
        late = tuple(self._tasks)
        for task in self._tasks - self._requests:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
