"""The callers that wait for a connection: clients in turn, and first in, first served within each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable

from gateway.database.care import Member
from gateway.database.failures import failure
from gateway.errors import Code, ToolError

Waiter = asyncio.Future[Member]


class Waiters:
    """Queues of futures, one for each client, served in rotation: who floods waits behind itself.

    A cancelled one is skipped and costs its client no turn. Everything is O(1) but `place`.
    """

    def __init__(self) -> None:
        # Ordered dictionaries as queues that may be left from the middle; the first client is next.
        self._queues: OrderedDict[Hashable, OrderedDict[Waiter, None]] = OrderedDict()
        self._clients: dict[Waiter, Hashable] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, waiter: Waiter, client: Hashable) -> None:
        """Queue behind those of the same client; a client that did not wait gets the last turn."""
        self._queues.setdefault(client, OrderedDict())[waiter] = None
        self._clients[waiter] = client

    def place(self, waiter: Waiter) -> int:
        """How many are served before this one, if nobody leaves."""
        client = self._clients[waiter]
        rounds = list(self._queues[client]).index(waiter)
        count, is_before = rounds, True
        for other, queue in self._queues.items():
            if other == client:
                is_before = False
            else:
                count += min(len(queue), rounds + is_before)
        return count

    def forget(self, waiter: Waiter) -> None:
        """Leave the queue, if still in it."""
        client = self._clients.pop(waiter, None)
        if client is not None:
            queue = self._queues[client]
            del queue[waiter]
            if not queue:
                del self._queues[client]

    def serve(self, member: Member) -> bool:
        """Give a connection to the next that still waits; whether there was one."""
        waiter = self._next()
        if waiter is None:
            return False
        waiter.set_result(member)
        return True

    def exhausted(self, retry_after: float) -> ToolError:
        """What the next caller is told when enough wait already."""
        return failure(Code.POOL_EXHAUSTED, f"{len(self)} callers wait for a connection", retry_after=retry_after)

    def fail_first(self, error: ToolError) -> None:
        """Tell the next that still waits why it gets none."""
        waiter = self._next()
        if waiter is not None:
            fail(waiter, error)

    def fail_all(self, error: ToolError) -> None:
        """Tell everyone."""
        while (waiter := self._next()) is not None:
            fail(waiter, error)

    def _next(self) -> Waiter | None:
        """Take out the one whose turn it is, and move its client to the end."""
        while self._queues:
            client, queue = next(iter(self._queues.items()))
            waiter, _ = queue.popitem(last=False)
            del self._clients[waiter]
            if not queue:
                del self._queues[client]
            if not waiter.done():
                if queue:
                    self._queues.move_to_end(client)
                return waiter
        return None


def delayed(error: ToolError, wait: float) -> ToolError:
    """The same failure, to be tried again after so many seconds."""
    return ToolError(error.code, error.message, detail=error.detail, retry_after=max(wait, 0.1))


def fail(waiter: Waiter, error: ToolError) -> None:
    """End one caller's waiting with an exception of its own: a shared one would collect tracebacks."""
    if not waiter.done():
        waiter.set_exception(ToolError(error.code, error.message, detail=error.detail, retry_after=error.retry_after))
