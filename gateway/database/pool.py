"""The one connection pool: bounded, fair, and impossible to leak by cancellation.

A caller either takes an idle connection at once or waits in a queue. Only the
pool's own background tasks open, check, reset and close connections, and hand
them to the first waiter; so a caller that is cancelled never holds half of one.
Every decision is plain code between two awaits: there is no lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from gateway.config.models import PoolSettings
from gateway.context import Call
from gateway.database import care
from gateway.database.care import Backoff, Member, PoolStats
from gateway.database.engine import Connection, Engine
from gateway.database.failures import failure
from gateway.database.waiters import Waiters, fail
from gateway.errors import Code, ToolError


class Pool:
    """The connections of one source.

    Args:
        engine: how to open them.
        settings: the limits.
        connect_timeout: seconds that opening one may take.
        on_up: told when a connection opened after there was none.
        on_down: told why, when there is none and opening failed.
    """

    def __init__(
        self,
        engine: Engine,
        settings: PoolSettings,
        connect_timeout: float,
        *,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[ToolError], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._connect_timeout = connect_timeout
        self._on_up = on_up
        self._on_down = on_down
        self._members: set[Member] = set()
        self._idle: deque[Member] = deque()
        self._waiters = Waiters()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._mending = 0
        self._backoff = Backoff()
        self._keeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._is_closed = False
        self.is_up = False
        self.trouble: ToolError | None = None

    @property
    def stats(self) -> PoolStats:
        """The numbers now."""
        idle = len(self._idle)
        return PoolStats(len(self._members) - idle, idle, self._opening, len(self._waiters), self._settings.max)

    def start(self) -> None:
        """Begin to open `min` connections, without waiting for them."""
        self._keep()

    @asynccontextmanager
    async def lease(self, call: Call) -> AsyncIterator[Member]:
        """Lend one connection until the block ends.

        Raises:
            ToolError: POOL_EXHAUSTED, POOL_TIMEOUT, CONNECT_TIMEOUT, or why the source is down.
        """
        call.report("waiting for a connection")
        member = self._take() or await self._wait(call)
        try:
            yield member
        finally:
            self._release(member)

    async def close(self, grace: float) -> None:
        """Lend no more, wait up to `grace` seconds for what is lent, then drop the rest."""
        self._is_closed = True
        self._backoff.clear()
        if self._keeper is not None:
            self._keeper.cancel()
        self._waiters.fail_all(failure(Code.SOURCE_UNAVAILABLE, "the pool is closing"))
        while self._idle:
            self._retire(self._idle.popleft())
        try:
            if self._members:
                await care.bounded(self._emptied.wait(), grace)
        finally:
            for member in self._members:
                member.connection.abort()
            self._members.clear()
            for task in self._tasks:
                task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=care.LIMIT)

    def _take(self) -> Member | None:
        """The idle connection used last, if it may be lent without a check."""
        if self._is_closed:
            raise failure(Code.SOURCE_UNAVAILABLE, "the pool is closed")
        now = asyncio.get_running_loop().time()
        while self._idle and not self._waiters:
            member = self._idle[-1]
            if member.connection.is_closed or now >= member.expires_at:
                self._idle.pop()
                self._retire(member)
            elif now - member.idle_since >= self._settings.ping_after:
                return None
            else:
                return self._idle.pop()
        return None

    async def _wait(self, call: Call) -> Member:
        """Queue for a connection: the first in is the first served."""
        loop = asyncio.get_running_loop()
        self._refuse_if_hopeless(loop.time())
        waiter: asyncio.Future[Member] = loop.create_future()
        timer = loop.call_later(min(self._settings.acquire_timeout, call.remaining()), self._expire, waiter)
        self._waiters.add(waiter)
        self._balance()
        started = loop.time()
        try:
            member = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled() or waiter.exception() is not None:
                self._waiters.forget(waiter)
            else:
                self._release(waiter.result())
            raise
        finally:
            timer.cancel()
        call.report(f"connection ready after {(loop.time() - started) * 1000:.0f} ms")
        return member

    def _refuse_if_hopeless(self, now: float) -> None:
        """Answer at once when waiting cannot help."""
        if self.trouble is not None and not self._members and not self._opening:
            wait = max(self._backoff.until - now, 0.1)
            raise ToolError(self.trouble.code, self.trouble.message, detail=self.trouble.detail, retry_after=wait)
        coming = self._settings.max - len(self._members) + len(self._idle) + self._mending
        if len(self._waiters) - coming >= self._settings.max_waiting:
            raise failure(
                Code.POOL_EXHAUSTED,
                f"{len(self._waiters)} callers wait for {self._settings.max} connections",
                retry_after=self._settings.acquire_timeout,
            )

    def _expire(self, waiter: asyncio.Future[Member]) -> None:
        """A caller waited as long as it may: name the stage that ran out."""
        if waiter.done():
            return
        is_connecting = self._waiters.place(waiter) < self._opening
        self._waiters.forget(waiter)
        code = Code.CONNECT_TIMEOUT if is_connecting else Code.POOL_TIMEOUT
        fail(waiter, failure(code, f"waited for a connection in vain: {self.stats}", retry_after=1.0))

    def _release(self, member: Member) -> None:
        """Take a connection back; what needs I/O is left to the background."""
        connection = member.connection
        now = asyncio.get_running_loop().time()
        if self._is_closed or connection.is_closed or now >= member.expires_at:
            self._retire(member)
        elif member.is_dirty or connection.needs_reset:
            self._mend(member, connection.reset)
        else:
            self._offer(member)

    def _offer(self, member: Member) -> None:
        """Give a good connection to the first waiter, or keep it."""
        if self._waiters.serve(member):
            return
        member.idle_since = asyncio.get_running_loop().time()
        self._idle.append(member)

    def _mend(self, member: Member, work: Callable[[], Awaitable[None]]) -> None:
        """Check or reset a connection in the background, then offer it or replace it."""
        self._mending += 1
        self._spawn(self._mended(member, work))

    async def _mended(self, member: Member, work: Callable[[], Awaitable[None]]) -> None:
        try:
            is_good = await care.does_well(work(), min(care.LIMIT, self._connect_timeout))
        finally:
            self._mending -= 1
        member.is_dirty = not is_good
        if not is_good or self._is_closed or member.connection.is_closed:
            self._retire(member)
        else:
            self._offer(member)

    def _retire(self, member: Member) -> None:
        """Close a connection for good; it counts until it is gone."""
        if member.connection.is_closed:
            self._remove(member)
        else:
            self._spawn(self._retired(member))

    async def _retired(self, member: Member) -> None:
        try:
            if not member.is_dirty:
                await care.does_well(member.connection.close(), care.LIMIT)
        finally:
            member.connection.abort()
            self._remove(member)

    def _remove(self, member: Member) -> None:
        self._members.discard(member)
        if self._is_closed and not self._members:
            self._emptied.set()
        self._balance()

    def _balance(self) -> None:
        """Start what the waiters and the minimum ask for. Decides; never awaits."""
        if self._is_closed:
            return
        missing = len(self._waiters) - self._opening - self._mending
        while missing > 0 and self._idle:
            member = self._idle.pop()
            self._mend(member, member.connection.ping)
            missing -= 1
        if self._backoff.is_pending:
            return
        floor = min(self._settings.min if self.is_up else max(self._settings.min, 1), self._settings.max)
        while self._size < self._settings.max and (missing > 0 or self._size < floor):
            self._opening += 1
            self._spawn(self._open())
            missing -= 1

    @property
    def _size(self) -> int:
        return len(self._members) + self._opening

    async def _open(self) -> None:
        """Open one connection and hand it over; after a failure, wait before the next attempt."""
        try:
            opened: Connection | ToolError = await care.open_connection(self._engine, self._connect_timeout)
        except ToolError as trouble:
            opened = trouble
        finally:
            self._opening -= 1
        if isinstance(opened, ToolError):
            self._failed(opened)
        else:
            self._succeeded(opened)

    def _succeeded(self, connection: Connection) -> None:
        member = Member(connection, asyncio.get_running_loop().time(), self._settings.max_lifetime)
        self._members.add(member)
        if self._is_closed:
            self._retire(member)
            return
        self._backoff.clear()
        self.trouble = None
        self._offer(member)
        self._balance()
        if not self.is_up:
            self.is_up = True
            self._on_up()

    def _failed(self, trouble: ToolError) -> None:
        if not self._is_closed:
            self._backoff.fail(trouble.is_retryable, self._balance)
        if not self._members:
            self.trouble = trouble
            if self._opening:
                self._waiters.fail_first(trouble)
            else:
                self._waiters.fail_all(trouble)
                self.is_up = False
                self._on_down(trouble)

    def _keep(self) -> None:
        """Retire what is dead, too old, or idle beyond the minimum."""
        going = care.outdated(self._idle, self._size - self._settings.min, self._settings.idle_timeout)
        self._idle = deque(member for member in self._idle if member not in going)
        for member in going:
            self._retire(member)
        self._balance()
        period = min(self._settings.idle_timeout, self._settings.max_lifetime, 4.0) / 4
        self._keeper = asyncio.get_running_loop().call_later(max(0.01, period), self._keep)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
