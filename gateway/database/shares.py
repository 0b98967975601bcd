"""How many of a source's connections one client may hold: it never holds them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config.sources import PoolSettings
from gateway.context import Call
from gateway.database.failures import failure
from gateway.errors import Code
from gateway.resilience.concurrency import Slots
from gateway.resilience.retry import Patience


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

    @asynccontextmanager
    async def hold(self, call: Call, patience: Patience) -> AsyncIterator[None]:
        """Count one more connection of the caller's client while the block runs.

        Raises:
            ToolError: POOL_EXHAUSTED, POOL_TIMEOUT.
        """
        if not self._is_needed:
            yield
            return
        client = call.principal.client
        if not self._slots.take(client, self._share):
            await self._wait(call, patience)
        try:
            yield
        finally:
            self._slots.release(client)

    async def _wait(self, call: Call, patience: Patience) -> None:
        call.report("waiting for a connection")
        client, most, now = call.principal.client, self._settings.max_waiting, asyncio.get_running_loop().time
        is_full, started = self._slots.waiting(client) >= most, now()
        try:
            is_admitted = await self._slots.wait(client, min(patience.left, call.remaining()), most)
        finally:
            patience.spend(now() - started)
        if not is_admitted:
            code = Code.POOL_EXHAUSTED if is_full else Code.POOL_TIMEOUT
            raise failure(code, f"the client already holds its {self._share} connections", retry_after=1.0)
