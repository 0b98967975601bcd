"""Borrowing a connection for the length of a block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from gateway.context import Call
from gateway.database.care import Member, PoolTimes
from gateway.errors import Code, ToolError
from gateway.resilience.retry import Patience

T = TypeVar("T")

_IN_VAIN: Final = frozenset({Code.POOL_TIMEOUT, Code.POOL_EXHAUSTED, Code.CONNECT_TIMEOUT})


class Lender(Protocol):
    """What a lease needs of a pool."""

    times: PoolTimes
    """Where the lease notes how long its caller waited and kept the connection."""

    def take(self, call: Call) -> Member | None:
        """An idle connection, if one may be lent without waiting."""

    async def wait(self, call: Call, patience: Patience | None) -> Member:
        """A connection, after waiting for it."""

    def release(self, member: Member) -> None:
        """Take a connection back."""


class Lease(Generic[T]):
    """`async with`: one connection until the block ends, however it ends.

    A class and no generator: borrowing is part of every call.

    Args:
        pool: lends the connection.
        call: who asks, and until when.
        patience: how long it may take; the pool's own limit when absent.
        give: what the block gets to see of the connection.

    Attributes:
        since: when the caller began to wait for something else first, by `time.perf_counter()`; 0 if it did not.
    """

    __slots__ = ("_call", "_give", "_lent", "_member", "_patience", "_pool", "since")

    def __init__(self, pool: Lender, call: Call, patience: Patience | None, give: Callable[[Member], T]) -> None:
        self._pool = pool
        self._call = call
        self._patience = patience
        self._give = give
        self.since = 0.0

    async def __aenter__(self) -> T:
        pool = self._pool
        member = pool.take(self._call)
        if member is None:
            member = await self._wait()
        elif self.since:
            self._waited(self.since)
        else:
            pool.times.wait.counts[0] += 1
        self._member = member
        self._lent = time.perf_counter()
        return self._give(member)

    async def _wait(self) -> Member:
        """Wait for a connection, and leave word of how long it took."""
        started = time.perf_counter()
        try:
            member = await self._pool.wait(self._call, self._patience)
        except (ToolError, asyncio.CancelledError) as error:
            self.failed(self.since or started, error)
            raise
        self._waited(self.since or started, member.opened if member.opened[1] >= started else None)
        return member

    def _waited(self, started: float, opened: tuple[float, float] | None = None) -> None:
        self._pool.times.wait.add(time.perf_counter() - started)
        self._call.mark("wait", started, more=opened)

    def failed(self, started: float, error: ToolError | asyncio.CancelledError) -> None:
        """Leave word of waiting that came to nothing."""
        code = error.code if isinstance(error, ToolError) else "cancelled"
        self._pool.times.timeouts += code in _IN_VAIN
        self._call.mark("wait", started, code)

    async def __aexit__(self, *_: object) -> None:
        self._pool.times.use.add(time.perf_counter() - self._lent)
        self._pool.release(self._member)
