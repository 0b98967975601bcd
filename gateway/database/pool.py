"""The one connection pool: bounded, fair, and impossible to leak by cancellation.

A caller either takes an idle connection at once or waits in a queue. Only the
pool's own background tasks open, check, reset and close connections, and hand
them to the next waiter; so a caller that is cancelled never holds half of one.
Every decision is plain code between two awaits: there is no lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.config.sources import PoolSettings
from gateway.context import Call
from gateway.database import care
from gateway.database.budget import Budget
from gateway.database.care import Member, PoolStats
from gateway.database.engine import Connection, Engine
from gateway.database.failures import failure
from gateway.database.lease import Lease
from gateway.database.opener import Opener
from gateway.database.upkeep import Upkeep
from gateway.database.waiters import Waiters, delayed, fail
from gateway.errors import Code, ToolError
from gateway.resilience.breaker import State
from gateway.resilience.retry import Patience


class Pool:
    """The connections of one source.

    Args:
        engine: how to open them.
        settings: the limits.
        connect_timeout: seconds that opening one may take.
        on_up: told when a connection opened after there was none.
        on_down: told why, when there is none and opening failed.
        on_breaker: told each new state of the breaker.
        budget: what it shares with other pools; one of its own when absent.
    """

    def __init__(
        self,
        engine: Engine,
        settings: PoolSettings,
        connect_timeout: float,
        *,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[ToolError], None] = lambda _: None,
        on_breaker: Callable[[State], None] = lambda _: None,
        budget: Budget | None = None,
    ) -> None:
        self._budget = budget or Budget(settings.max)
        self._budget.join(self)
        self._settings = settings
        self._on_up = on_up
        self._on_down = on_down
        self._members: set[Member] = set()
        self._idle: deque[Member] = deque()
        self._waiters = Waiters()
        self._upkeep = Upkeep(connect_timeout, self._mended, self._remove)
        self._opener = Opener(
            engine, connect_timeout, self._upkeep.spawn, self._opened, self._failed, self.balance, on_breaker
        )
        self.breaker = self._opener.breaker
        self._lost_at = float("-inf")
        self._keeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._is_closed = False
        self.is_up = False
        self.trouble: ToolError | None = None

    @property
    def stats(self) -> PoolStats:
        """The numbers now."""
        idle = len(self._idle)
        return PoolStats(len(self._members) - idle, idle, self._opener.opening, len(self._waiters), self._settings.max)

    @property
    def size(self) -> int:
        """Connections, those included that are opening or closing."""
        return len(self._members) + self._opener.opening

    @property
    def leaving(self) -> int:
        """Those that are closing."""
        return sum(member.is_leaving for member in self._members)

    @property
    def wanting(self) -> int:
        """Connections that callers lack, or the one that finds out whether the database is there."""
        missing = len(self._waiters) - self._opener.opening - self._upkeep.mending
        return 0 if self._is_closed else max(missing, int(not self.is_up and self.size == 0))

    @property
    def idle_since(self) -> float | None:
        """When its longest idle connection came back, in loop time."""
        return self._idle[0].idle_since if self._idle else None

    def give_up(self) -> None:
        """Begin to close that one."""
        self._upkeep.retire(self._idle.popleft())  # also a closed one: nothing changes before this returns

    def start(self) -> None:
        """Begin to open `min` connections, without waiting for them."""
        self._keep()

    def lease(self, call: Call, patience: Patience | None = None) -> Lease[Member]:
        """Lend one connection until the block ends, after at most the patience given, else `acquire_timeout`.

        Entering raises ToolError: POOL_EXHAUSTED, POOL_TIMEOUT, CONNECT_TIMEOUT, or why the source is down.
        """
        return Lease(self, call, patience, lambda member: member)

    async def close(self, grace: float) -> None:
        """Lend no more, wait up to `grace` seconds for what is lent, then drop the rest."""
        self._is_closed = True
        self._opener.close()
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
            self._upkeep.cancel()
        await self._upkeep.ended()

    def take(self, call: Call) -> Member | None:
        """The idle connection used last, if it may be lent without a check."""
        call.report("waiting for a connection")
        if self._is_closed:
            raise failure(Code.SOURCE_UNAVAILABLE, "the pool is closed")
        now = asyncio.get_running_loop().time()
        while self._idle and not self._waiters:
            member = self._idle[-1]
            if member.connection.is_closed or now >= member.expires_at:
                self._idle.pop()
                self._retire(member)
            elif now - member.idle_since >= self._settings.ping_after or member.idle_since <= self._lost_at:
                return None
            else:
                return self._idle.pop()
        return None

    async def wait(self, call: Call, patience: Patience | None) -> Member:
        """Queue for a connection: clients take turns, the first in of each is its first served."""
        loop = asyncio.get_running_loop()
        patience = patience or Patience(self._settings.acquire_timeout)
        self._refuse_if_hopeless()
        waiter: asyncio.Future[Member] = loop.create_future()
        timer = loop.call_later(min(patience.left, call.remaining()), self._expire, waiter)
        self._waiters.add(waiter, call.principal.client)
        self.balance()
        started = loop.time()
        try:
            member = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled() or waiter.exception() is not None:
                self._waiters.forget(waiter)
            else:
                self.release(waiter.result())
            raise
        finally:
            timer.cancel()
            patience.spend(loop.time() - started)
        call.report(f"connection ready after {(loop.time() - started) * 1000:.0f} ms")
        return member

    def _refuse_if_hopeless(self) -> None:
        """Answer at once when waiting cannot help."""
        if self.trouble is not None and not self._members and self.breaker.state is not State.CLOSED:
            raise delayed(self.trouble, self.breaker.wait)
        coming = self._settings.max - len(self._members) + len(self._idle) + self._upkeep.mending
        if len(self._waiters) - coming >= self._settings.max_waiting:
            raise self._waiters.exhausted(self._settings.acquire_timeout)

    def _expire(self, waiter: asyncio.Future[Member]) -> None:
        """A caller waited as long as it may: name the stage that ran out."""
        if waiter.done():
            return
        is_connecting = self._waiters.place(waiter) < self._opener.opening
        self._waiters.forget(waiter)
        code = Code.CONNECT_TIMEOUT if is_connecting else Code.POOL_TIMEOUT
        fail(waiter, failure(code, f"waited for a connection in vain: {self.stats}", retry_after=1.0))

    def release(self, member: Member) -> None:
        """Take a connection back; what needs I/O is left to the background."""
        connection = member.connection
        now = asyncio.get_running_loop().time()
        if connection.is_closed or member.is_lost:
            self._lose(member)
        elif self._is_closed or now >= member.expires_at:
            self._retire(member)
        elif member.is_dirty or connection.needs_reset:
            self._upkeep.mend(member, connection.reset)
        else:
            self._offer(member)

    def _lose(self, member: Member) -> None:
        """A connection broke: what is idle may have broken with it, and is checked before it is lent."""
        self._lost_at = asyncio.get_running_loop().time()
        self._retire(member)

    def _offer(self, member: Member) -> None:
        """Give a good connection to the next waiter, or keep it."""
        if self._budget.claims(self):
            self._retire(member)
        else:
            self._keep_or_lend(member)

    def _keep_or_lend(self, member: Member) -> None:
        if self._waiters.serve(member):
            return
        member.idle_since = asyncio.get_running_loop().time()
        self._idle.append(member)

    def _mended(self, member: Member, is_good: bool) -> None:
        if not is_good:
            self._lose(member)
        elif self._is_closed:
            self._retire(member)
        else:
            self._offer(member)

    def _retire(self, member: Member) -> None:
        if member.connection.is_closed:
            self._remove(member)
        else:
            self._upkeep.retire(member)

    def _remove(self, member: Member) -> None:
        self._members.discard(member)
        if self._is_closed and not self._members:
            self._emptied.set()
        self._budget.freed()
        self.balance()

    def balance(self) -> None:
        """Start what the waiters and the minimum ask for. Decides; never awaits."""
        if self._is_closed:
            return
        missing = len(self._waiters) - self._opener.opening - self._upkeep.mending
        while missing > 0 and self._idle:
            member = self._idle.pop()
            self._upkeep.mend(member, member.connection.ping)
            missing -= 1
        floor = min(self._settings.min if self.is_up else max(self._settings.min, 1), self._settings.max)
        while missing > 0 or self.size < floor:
            if not (self._budget.admits(self) and self._opener.begin()):
                return
            missing -= 1

    def _opened(self, connection: Connection) -> None:
        member = Member(connection, asyncio.get_running_loop().time(), self._settings.max_lifetime)
        self._members.add(member)
        if self._is_closed:
            self._retire(member)
            return
        self.trouble = None
        self._keep_or_lend(member)  # serves at least once: pools that give way at once would never stop
        self.balance()
        if not self.is_up:
            self.is_up = True
            self._on_up()

    def _failed(self, trouble: ToolError) -> None:
        self.trouble = trouble
        if not self._members:
            told = delayed(trouble, self.breaker.wait)
            if self._opener.opening:
                self._waiters.fail_first(told)
            else:
                self._waiters.fail_all(told)
                self.is_up = False
                self._on_down(trouble)
        self._budget.freed()
        self.balance()

    def _keep(self) -> None:
        """Retire what is dead, too old, or idle beyond the minimum."""
        going = care.outdated(self._idle, self.size - self._settings.min, self._settings.idle_timeout)
        self._idle = deque(member for member in self._idle if member not in going)
        for member in going:
            self._retire(member)
        self.balance()
        period = min(self._settings.idle_timeout, self._settings.max_lifetime, 4.0) / 4
        self._keeper = asyncio.get_running_loop().call_later(max(0.01, period), self._keep)
