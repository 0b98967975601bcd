"""What the pool does to one connection, always bounded: open it, check it, close it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.database.engine import Connection, Engine
from gateway.database.failures import failure
from gateway.errors import Code
from gateway.resilience.histogram import Histogram

log = logging.getLogger("gateway.database")

LIMIT: Final = 2.0
"""Seconds that a ping, a reset or a polite goodbye may take."""

CANCEL_GRACE: Final = 0.5


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment: numbers of connections and of callers."""

    active: int
    idle: int
    opening: int
    waiting: int
    max: int

    def __add__(self, other: PoolStats) -> PoolStats:
        """The numbers of two pools that share one maximum."""
        return PoolStats(
            self.active + other.active,
            self.idle + other.idle,
            self.opening + other.opening,
            self.waiting + other.waiting,
            self.max,
        )


class PoolTimes:
    """What a pool's callers waited for, in seconds.

    Attributes:
        create: to open a connection, login included.
        wait: to obtain one; those at hand count as 0.
        use: from lending one to its return.
        timeouts: callers who waited in vain.
    """

    __slots__ = ("create", "timeouts", "use", "wait")

    def __init__(self) -> None:
        self.create = Histogram()
        self.wait = Histogram()
        self.use = Histogram()
        self.timeouts = 0

    def __add__(self, other: PoolTimes) -> PoolTimes:
        """The times of two pools as those of one."""
        both = PoolTimes()
        both.create, both.wait, both.use = self.create + other.create, self.wait + other.wait, self.use + other.use
        both.timeouts = self.timeouts + other.timeouts
        return both


class Member:
    """One open connection of a pool.

    Attributes:
        connection: the engine's connection.
        opened: when its opening began and ended, by `time.perf_counter()`.
        expires_at: loop time at which it is replaced.
        idle_since: loop time of its last return.
        is_dirty: whether its last use failed or was cancelled.
        is_lost: whether its last use found the connection broken.
        is_leaving: whether it is being closed for good.
    """

    __slots__ = ("connection", "expires_at", "idle_since", "is_dirty", "is_leaving", "is_lost", "opened")

    def __init__(
        self, connection: Connection, now: float, lifetime: float, opened: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.connection = connection
        self.opened = opened
        self.expires_at = now + lifetime * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, no secret
        self.idle_since = now
        self.is_dirty = False
        self.is_lost = False
        self.is_leaving = False


async def open_connection(engine: Engine, limit: float) -> Connection:
    """Open a connection within `limit` seconds; one that opens later, or for nobody, is dropped.

    Raises:
        ToolError: CONNECT_TIMEOUT, or the engine's name for what went wrong.
    """
    opened: list[Connection] = []
    is_over = False

    async def work() -> None:
        connection = await engine.connect()
        if is_over:
            connection.abort()
        else:
            opened.append(connection)

    try:
        await bounded(work(), limit)
    except asyncio.CancelledError:
        for connection in opened:
            connection.abort()
        raise
    except Exception as error:
        named = engine.translate(error)
        if named.code is Code.CONNECTION_LOST:
            named = failure(Code.SOURCE_UNAVAILABLE, named.detail)
        raise named from error
    finally:
        is_over = True
    if not opened:
        raise failure(Code.CONNECT_TIMEOUT, f"no connection within {limit} s")
    return opened[0]


async def does_well(work: Awaitable[None], limit: float) -> bool:
    """Whether a ping, a reset or a goodbye succeeds within `limit` seconds."""
    try:
        return await bounded(work, limit)
    except Exception as error:  # noqa: BLE001 - whatever it was, the connection is replaced
        log.debug("a connection failed its check: %r", error)
        return False


async def bounded(work: Awaitable[Any], limit: float) -> bool:
    """Wait at most `limit` seconds for work of our own; whether it finished.

    `asyncio.timeout` waits for as long as the cancelled code likes; this does not.
    Raises what the work raised.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_GRACE)
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_swallow)
        raise
    if task.done() and not task.cancelled():
        task.result()
        return True
    task.add_done_callback(_swallow)
    return False


def _swallow(task: asyncio.Future[Any]) -> None:
    """Read the outcome that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def outdated(idle: Iterable[Member], spare: int, idle_timeout: float) -> list[Member]:
    """The idle connections that are dead, too old, or (at most `spare` of them) idle for too long."""
    now = asyncio.get_running_loop().time()
    going: list[Member] = []
    for member in idle:
        is_idle_too_long = len(going) < spare and now - member.idle_since >= idle_timeout
        if is_idle_too_long or member.connection.is_closed or now >= member.expires_at:
            going.append(member)
    return going
