"""The background work of a pool: checking, resetting and closing its connections, always bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.database import care
from gateway.database.care import Member


class Upkeep:
    """Runs the tasks of one pool.

    Args:
        limit: seconds that a check or a reset may take, beside `care.LIMIT`.
        on_mended: told whether a connection may be lent again.
        on_gone: told that a connection is closed.
    """

    def __init__(
        self, limit: float, on_mended: Callable[[Member, bool], None], on_gone: Callable[[Member], None]
    ) -> None:
        self._limit = min(care.LIMIT, limit)
        self._on_mended = on_mended
        self._on_gone = on_gone
        self._tasks: set[asyncio.Task[None]] = set()
        self.mending = 0

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def mend(self, member: Member, work: Callable[[], Awaitable[None]]) -> None:
        """Check or reset a connection."""
        self.mending += 1
        self.spawn(self._mend(member, work))

    async def _mend(self, member: Member, work: Callable[[], Awaitable[None]]) -> None:
        try:
            is_good = await care.does_well(work(), self._limit)
        finally:
            self.mending -= 1
        member.is_dirty = not is_good
        self._on_mended(member, is_good and not member.connection.is_closed)

    def retire(self, member: Member) -> None:
        """Close a connection for good."""
        member.is_leaving = True
        self.spawn(self._retire(member))

    async def _retire(self, member: Member) -> None:
        try:
            if not member.is_dirty:
                await care.does_well(member.connection.close(), care.LIMIT)
        finally:
            member.connection.abort()
            self._on_gone(member)

    def cancel(self) -> None:
        """Stop what still runs."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Wait a little until all has stopped."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=care.LIMIT)
