"""What the pool does to one connection, always bounded: open it, check it, close it, wait before the next attempt."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.database.engine import Connection, Engine
from gateway.database.failures import failure
from gateway.errors import Code

log = logging.getLogger("gateway.database")

LIMIT: Final = 2.0
"""Seconds that a ping, a reset or a polite goodbye may take."""

FIRST_DELAY: Final = 0.1
TRANSIENT_CAP: Final = 5.0
PERMANENT_CAP: Final = 30.0
CANCEL_GRACE: Final = 0.5


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment: numbers of connections and of callers."""

    active: int
    idle: int
    opening: int
    waiting: int
    max: int


class Member:
    """One open connection of a pool.

    Attributes:
        connection: the engine's connection.
        expires_at: loop time at which it is replaced.
        idle_since: loop time of its last return.
        is_dirty: whether its last use failed or was cancelled.
    """

    __slots__ = ("connection", "expires_at", "idle_since", "is_dirty")

    def __init__(self, connection: Connection, now: float, lifetime: float) -> None:
        self.connection = connection
        self.expires_at = now + lifetime * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, no secret
        self.idle_since = now
        self.is_dirty = False


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


class Backoff:
    """The pause after failed attempts: 100 ms doubled, jittered.

    Capped at 5 s, and at 30 s where trying again does not help by itself
    (a refused login), since that can lock the account.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it is too early for another attempt."""
        return self._timer is not None

    def fail(self, is_transient: bool, again: Callable[[], None]) -> None:
        """Count one failure and call `again` after the pause; failures during one pause count once."""
        if self._timer is not None:
            return
        cap = TRANSIENT_CAP if is_transient else PERMANENT_CAP
        delay = min(cap, FIRST_DELAY * 2 ** min(self.failures, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        loop = asyncio.get_running_loop()
        self.failures += 1
        self.until = loop.time() + delay
        self._timer = loop.call_later(delay, self._over, again)

    def clear(self) -> None:
        """An attempt succeeded, or none is wanted any more."""
        self.failures = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self, again: Callable[[], None]) -> None:
        self._timer = None
        again()


def outdated(idle: Iterable[Member], spare: int, idle_timeout: float) -> list[Member]:
    """The idle connections that are dead, too old, or (at most `spare` of them) idle for too long."""
    now = asyncio.get_running_loop().time()
    going: list[Member] = []
    for member in idle:
        is_idle_too_long = len(going) < spare and now - member.idle_since >= idle_timeout
        if is_idle_too_long or member.connection.is_closed or now >= member.expires_at:
            going.append(member)
    return going
