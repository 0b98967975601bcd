"""Opens a pool's connections in the background, no faster than the breaker lets it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.database import care
from gateway.database.engine import Connection, Engine
from gateway.errors import ToolError
from gateway.resilience.breaker import Breaker, State


class Opener:
    """Knows how many connections are being opened, and whether opening makes sense now.

    Args:
        engine: how to open them.
        limit: seconds that opening one may take.
        spawn: runs an attempt in the background.
        on_open: given each new connection, and when its opening began and ended by `time.perf_counter()`.
        on_fail: told why there is none.
        again: told that a refused attempt may be asked for again.
        on_breaker: told each new state of the breaker.
    """

    def __init__(
        self,
        engine: Engine,
        limit: float,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        on_open: Callable[[Connection, tuple[float, float]], None],
        on_fail: Callable[[ToolError], None],
        again: Callable[[], None],
        on_breaker: Callable[[State], None],
    ) -> None:
        self._engine = engine
        self._limit = limit
        self._spawn = spawn
        self._on_open = on_open
        self._on_fail = on_fail
        self._again = again
        self._timer: asyncio.TimerHandle | None = None
        self.breaker = Breaker(asyncio.get_running_loop().time, on_change=on_breaker)
        self.opening = 0

    def begin(self) -> bool:
        """Begin to open one connection; False when it is too early."""
        if self.breaker.begin():
            self.opening += 1
            self._spawn(self._open())
            return True
        # The end of a probe is told by itself; the end of a pause needs a clock.
        if self._timer is None and self.breaker.state is not State.HALF_OPEN:
            self._timer = asyncio.get_running_loop().call_later(max(self.breaker.wait, 0.001), self._pause_over)
        return False

    def close(self) -> None:
        """Begin nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _pause_over(self) -> None:
        self._timer = None
        self._again()

    async def _open(self) -> None:
        started = time.perf_counter()
        try:
            connection = await care.open_connection(self._engine, self._limit)
        except ToolError as trouble:
            self.opening -= 1
            self.breaker.failed(is_transient=trouble.is_retryable)
            self._on_fail(trouble)
        except asyncio.CancelledError:
            self.opening -= 1
            self.breaker.abandoned()
            raise
        else:
            self.opening -= 1
            self.breaker.succeeded()
            self._on_open(connection, (started, time.perf_counter()))
