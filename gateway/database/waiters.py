"""The callers that wait for a connection, first in, first served."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.database.care import Member
from gateway.database.failures import failure
from gateway.errors import Code, ToolError

Waiter = asyncio.Future[Member]


class Waiters:
    """A queue of futures. A cancelled one is skipped; nobody else can take a waiter's turn."""

    def __init__(self) -> None:
        self._queue: deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, waiter: Waiter) -> None:
        """Queue at the end."""
        self._queue.append(waiter)

    def place(self, waiter: Waiter) -> int:
        """How many wait before this one."""
        return self._queue.index(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Leave the queue, if still in it."""
        if waiter in self._queue:
            self._queue.remove(waiter)

    def serve(self, member: Member) -> bool:
        """Give a connection to the first that still waits; whether there was one."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(member)
                return True
        return False

    def exhausted(self, retry_after: float) -> ToolError:
        """What the next caller is told when enough wait already."""
        return failure(Code.POOL_EXHAUSTED, f"{len(self)} callers wait for a connection", retry_after=retry_after)

    def fail_first(self, error: ToolError) -> None:
        """Tell the first that still waits why it gets none."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                fail(waiter, error)
                return

    def fail_all(self, error: ToolError) -> None:
        """Tell everyone."""
        while self._queue:
            fail(self._queue.popleft(), error)


def delayed(error: ToolError, wait: float) -> ToolError:
    """The same failure, to be tried again after so many seconds."""
    return ToolError(error.code, error.message, detail=error.detail, retry_after=max(wait, 0.1))


def fail(waiter: Waiter, error: ToolError) -> None:
    """End one caller's waiting with an exception of its own: a shared one would collect tracebacks."""
    if not waiter.done():
        waiter.set_exception(ToolError(error.code, error.message, detail=error.detail, retry_after=error.retry_after))
