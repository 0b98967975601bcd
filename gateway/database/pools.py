"""The connections of one source: its pool, those of its accounts, and what they share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import reduce
from typing import Final

from gateway.config.sources import AnySource
from gateway.context import Call
from gateway.database.accounts import Accounts
from gateway.database.budget import Budget
from gateway.database.care import PoolStats, PoolTimes
from gateway.database.engine import Engine
from gateway.database.lease import Lease
from gateway.database.pool import Pool
from gateway.database.session import Session
from gateway.database.shares import Shares
from gateway.errors import ToolError
from gateway.resilience.breaker import State
from gateway.resilience.retry import Patience

log = logging.getLogger("gateway.database")

CLOSE_GRACE: Final = 5.0
"""Seconds that leased connections have to come back when the pools close."""


class Pools:
    """What stays of a source while its settings stay, whatever else of the configuration changes.

    Args:
        name: the source's name.
        settings: the source.
        engine: how it is reached.
        build: makes the engine for one of its accounts.
    """

    def __init__(
        self, name: str, settings: AnySource, engine: Engine, build: Callable[[AnySource, str], Engine]
    ) -> None:
        self.name = name
        self.engine = engine
        self._budget = Budget(settings.pool.max)
        self._shares = Shares(settings.pool)
        self._accounts = Accounts(name, settings, build, self._budget) if settings.credentials else None
        self._listeners: dict[Callable[[], None], None] = {}
        self._own = Pool(
            engine,
            settings.pool,
            settings.connect_timeout,
            on_up=self._came_up,
            on_down=self._went_down,
            on_breaker=self._breaker_changed,
            budget=self._budget,
        )

    @property
    def is_up(self) -> bool:
        """Whether the database was reached and has not been lost since."""
        return self._own.is_up

    @property
    def trouble(self) -> str:
        """Why the source is down, in the operator's words; "" when it is up."""
        if self.is_up:
            return ""
        if self._own.trouble is None:
            return "not reached yet"
        return f"{self._own.trouble.code}: {self._own.trouble.detail}"

    @property
    def breaker(self) -> str:
        """The state of the circuit breaker: closed, open or half-open."""
        return self._own.breaker.state.value

    @property
    def stats(self) -> PoolStats:
        """The numbers now, of all accounts together."""
        own, others = self._own.stats, [pool.stats for pool in self._accounts.pools] if self._accounts else []
        total = reduce(PoolStats.__add__, others, own)
        return replace(total, waiting=total.waiting + self._shares.waiting)

    @property
    def times(self) -> PoolTimes:
        """What callers waited for since the start, over all accounts."""
        others = [pool.times for pool in self._accounts.pools] if self._accounts else []
        return reduce(PoolTimes.__add__, others, self._own.times)

    def choose(self, call: Call) -> tuple[Pool, Engine]:
        """The pool whose account is the caller's, and its engine.

        Raises:
            ToolError: ACCESS_DENIED, there is none.
        """
        return self._accounts.choose(call.principal) if self._accounts else (self._own, self.engine)

    @property
    def own(self) -> Pool:
        """The pool of the source's own account."""
        return self._own

    def in_turn(self, call: Call, patience: Patience, lease: Lease[Session]) -> AbstractAsyncContextManager[Session]:
        """The lease, once it is the caller's turn."""
        return self._shares.lease(call, patience, lease)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this whenever the database came up."""
        self._listeners[listener] = None

    def forget(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners.pop(listener, None)

    def start(self) -> None:
        """Begin to connect, without waiting; once."""
        self._own.start()

    async def close(self) -> None:
        """Wait a little for what is leased, then close every connection."""
        others = [self._accounts.close(CLOSE_GRACE)] if self._accounts else []
        await asyncio.gather(self._own.close(CLOSE_GRACE), *others)

    def _came_up(self) -> None:
        log.info("source %s is up", self.name, extra={"source": self.name})
        for listener in tuple(self._listeners):
            listener()

    def _went_down(self, error: ToolError) -> None:
        log.warning("source %s is down: %s: %s", self.name, error.code, error.detail, extra={"source": self.name})

    def _breaker_changed(self, state: State) -> None:
        level = logging.DEBUG if state is State.HALF_OPEN else logging.INFO
        log.log(level, "source %s: breaker %s", self.name, state, extra={"source": self.name, "breaker": state.value})
