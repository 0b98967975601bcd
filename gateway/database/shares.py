"""How many of a source's connections one client may hold: it never holds them all."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from gateway.config.sources import PoolSettings
from gateway.context import Call
from gateway.database.failures import failure
from gateway.database.lease import Lease
from gateway.errors import Code, ToolError
from gateway.resilience.concurrency import Slots
from gateway.resilience.retry import Patience

T = TypeVar("T")


class Shares:
    """The connections of each client, of all accounts together.

    Whoever has its share waits here, behind itself, and takes no place among those who wait at the pool.

    Args:
        settings: of the pool.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._share = settings.max_per_client or max(1, settings.max - 1)
        # With nothing left for others anyway, turns at the pool are all the fairness there is.
        self._is_needed = self._share < settings.max
        self._slots = Slots()

    @property
    def waiting(self) -> int:
        """Callers that wait."""
        return self._slots.all_waiting

    def lease(self, call: Call, patience: Patience, lease: Lease[T]) -> AbstractAsyncContextManager[T]:
        """The same lease, counted as one of the caller's client for as long as the block runs.

        Entering raises ToolError: POOL_EXHAUSTED or POOL_TIMEOUT, besides what the lease raises.
        """
        return _Share(self, call, patience, lease) if self._is_needed else lease

    def enter(self, call: Call) -> bool:
        """Take one of the client's places, if one is free."""
        return self._slots.take(call.principal.client, self._share)

    async def wait(self, call: Call, patience: Patience) -> None:
        """Take one of the client's places once one is free.

        Raises:
            ToolError: POOL_EXHAUSTED, POOL_TIMEOUT.
        """
        client, most, now = call.principal.client, self._settings.max_waiting, asyncio.get_running_loop().time
        call.report("waiting for a connection")
        is_full, started = self._slots.waiting(client) >= most, now()
        try:
            is_admitted = await self._slots.wait(client, min(patience.left, call.remaining()), most)
        finally:
            patience.spend(now() - started)
        if not is_admitted:
            code = Code.POOL_EXHAUSTED if is_full else Code.POOL_TIMEOUT
            raise failure(code, f"the client already holds its {self._share} connections", retry_after=1.0)

    def leave(self, call: Call) -> None:
        """Give it back."""
        self._slots.release(call.principal.client)


class _Share(Generic[T]):
    """`async with`: a lease within a place. A class and no generator: borrowing is part of every call."""

    __slots__ = ("_call", "_lease", "_patience", "_shares")

    def __init__(self, shares: Shares, call: Call, patience: Patience, lease: Lease[T]) -> None:
        self._shares = shares
        self._call = call
        self._patience = patience
        self._lease = lease

    async def __aenter__(self) -> T:
        if not self._shares.enter(self._call):
            await self._wait()
        try:
            return await self._lease.__aenter__()
        except BaseException:
            self._shares.leave(self._call)
            raise

    async def _wait(self) -> None:
        """Wait for a place, and leave word of how it went."""
        started = time.perf_counter()
        try:
            await self._shares.wait(self._call, self._patience)
        except (ToolError, asyncio.CancelledError) as error:
            self._lease.failed(started, error)
            raise
        self._lease.since = started

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._lease.__aexit__(None, None, None)
        finally:
            self._shares.leave(self._call)
