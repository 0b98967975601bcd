"""The configured databases: each with its engine, its pool, and what is known of its statements."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

from gateway.config.models import GatewaySettings
from gateway.config.sources import AnySource
from gateway.context import Call, Principal
from gateway.database.accounts import Accounts
from gateway.database.budget import Budget
from gateway.database.care import PoolStats
from gateway.database.engine import Column, Engine, Statement
from gateway.database.failures import failure
from gateway.database.identity import identity_of
from gateway.database.lease import Lease
from gateway.database.pool import Pool
from gateway.database.session import Session
from gateway.database.shares import Shares
from gateway.errors import Code, GatewayError, ToolError
from gateway.resilience.breaker import State
from gateway.resilience.retry import Patience

log = logging.getLogger("gateway.database")

ENGINES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "mysql": ("gateway.database.mysql", "MysqlEngine"),
        "oracle": ("gateway.database.oracle", "OracleEngine"),
        "postgresql": ("gateway.database.postgresql", "PostgresqlEngine"),
        "sqlite": ("gateway.database.sqlite", "SqliteEngine"),
    }
)
"""Engine name -> module and class; imported only when a source asks for it."""

CLOSE_GRACE: Final = 5.0
"""Seconds that leased connections have to come back when the sources close."""

_REFUSALS: Final = frozenset({Code.STATEMENT_INVALID, Code.ACCESS_DENIED, Code.READ_ONLY, Code.INVALID_VALUE})
_REPREPARE: Final = 30.0
_ITSELF: Final = Principal(issuer="gateway", subject="gateway", client_id="", scopes=frozenset())


class DriverMissing(GatewayError):
    """A source needs a driver that is not installed."""


def build_engine(settings: AnySource, name: str = "") -> Engine:
    """The engine of a source; does no I/O.

    Args:
        settings: the source.
        name: the source's name, shown to the database's operator where the engine can.

    Raises:
        DriverMissing: its extra is not installed.
    """
    module, attribute = ENGINES[settings.engine]
    try:
        factory: Callable[[Any, str], Engine] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise DriverMissing(
            f"a source of engine {settings.engine} needs its driver: "
            f"pip install 'mcp-database-gateway[{settings.engine}]' (missing module: {error.name})"
        ) from error
    return factory(settings, name)


class Source:
    """One database as the tools see it.

    Attributes:
        name: as configured.
        settings: as configured.
        engine: how it is reached.
        required: whether the process is unready without it.
    """

    def __init__(
        self,
        name: str,
        settings: AnySource,
        engine: Engine,
        statements: Sequence[Statement],
        on_shapes: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.engine = engine
        self.required = settings.required
        self._statements = tuple(statements)
        self._shapes: dict[str, tuple[Column, ...]] = {}
        self._on_shapes = on_shapes
        self._has_news = False
        self._broken: dict[str, ToolError] = {}
        self._budget = Budget(settings.pool.max)
        self._shares = Shares(settings.pool)
        self._accounts = Accounts(name, settings, build_engine, self._budget) if settings.credentials else None
        self._pool = Pool(
            engine,
            settings.pool,
            settings.connect_timeout,
            on_up=self._came_up,
            on_down=self._went_down,
            on_breaker=self._breaker_changed,
            budget=self._budget,
        )
        self._preparing: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the database was reached and has not been lost since."""
        return self._pool.is_up

    @property
    def trouble(self) -> str:
        """Why the source is down, in the operator's words; "" when it is up."""
        if self.is_up:
            return ""
        if self._pool.trouble is None:
            return "not reached yet"
        return f"{self._pool.trouble.code}: {self._pool.trouble.detail}"

    @property
    def breaker(self) -> str:
        """The state of the circuit breaker: closed, open or half-open."""
        return self._pool.breaker.state.value

    @property
    def stats(self) -> PoolStats:
        """The numbers now, of all accounts together."""
        own, others = self._pool.stats, [pool.stats for pool in self._accounts.pools] if self._accounts else []
        total = reduce(PoolStats.__add__, others, own)
        return replace(total, waiting=total.waiting + self._shares.waiting)

    @property
    def shapes(self) -> Mapping[str, tuple[Column, ...]]:
        """The columns of each tool's result, as far as the database has told."""
        return MappingProxyType(self._shapes)

    @property
    def broken(self) -> Mapping[str, ToolError]:
        """The statements that the database refused, and why."""
        return MappingProxyType(self._broken)

    def lease(self, call: Call, patience: Patience | None = None) -> AbstractAsyncContextManager[Session]:
        """Borrow a connection for the length of the block; see `Pool.lease` for what entering raises.

        Args:
            call: who asks, and until when.
            patience: the waiting that all attempts of the call share; `acquire_timeout` when absent.

        Raises:
            ToolError: ACCESS_DENIED when the token lacks what the session must be told, or no account is for it.
        """
        identity = identity_of(self.settings.session, call)
        pool, engine = self._accounts.choose(call.principal) if self._accounts else (self._pool, self.engine)
        patience = patience or self.patience()
        return self._shares.lease(call, patience, self._lend(call, identity, patience, pool, engine))

    def _lend(
        self,
        call: Call,
        identity: Mapping[str, str],
        patience: Patience | None = None,
        pool: Pool | None = None,
        engine: Engine | None = None,
    ) -> Lease[Session]:
        limit, learn, used = self.settings.statement_timeout, self._relearn, engine or self.engine
        return Lease(pool or self._pool, call, patience, lambda member: Session(member, used, limit, learn, identity))

    def patience(self) -> Patience:
        """The waiting that one call may do."""
        return Patience(self.settings.pool.acquire_timeout)

    def start(self) -> None:
        """Begin to connect, without waiting."""
        self._pool.start()

    async def close(self) -> None:
        """Wait a little for what is leased, then close every connection."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait({self._preparing})
        others = [self._accounts.close(CLOSE_GRACE)] if self._accounts else []
        await asyncio.gather(self._pool.close(CLOSE_GRACE), *others)

    def _came_up(self) -> None:
        log.info("source %s is up", self.name, extra={"source": self.name})
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = asyncio.get_running_loop().create_task(self._prepare())

    def _went_down(self, error: ToolError) -> None:
        log.warning("source %s is down: %s: %s", self.name, error.code, error.detail, extra={"source": self.name})

    def _breaker_changed(self, state: State) -> None:
        level = logging.DEBUG if state is State.HALF_OPEN else logging.INFO
        log.log(level, "source %s: breaker %s", self.name, state, extra={"source": self.name, "breaker": state.value})

    async def _prepare(self) -> None:
        """Prepare every statement; again, from time to time, those that did not go."""
        missing = {statement.name for statement in self._statements}
        while missing:
            for statement in self._statements:
                if statement.name in missing and await self._prepare_one(statement):
                    missing.discard(statement.name)
            self._tell_news()
            if missing:
                await asyncio.sleep(_REPREPARE if missing <= self._broken.keys() else 1.0)

    async def _prepare_one(self, statement: Statement) -> bool:
        """Whether the database accepts the statement."""
        call = Call("", _ITSELF, asyncio.get_running_loop().time() + self.settings.statement_timeout)
        try:
            async with self._lend(call, {}) as session:
                self._learn(statement, await session.describe(statement))
        except ToolError as error:
            if error.code in _REFUSALS:
                if statement.name not in self._broken:
                    log.warning("tool %s does not fit source %s: %s", statement.name, self.name, error.detail)
                self._broken[statement.name] = error
            return False
        return True

    def _learn(self, statement: Statement, columns: tuple[Column, ...]) -> None:
        """Remember the columns of a result, which a change of the schema may have changed."""
        if self._shapes.get(statement.name) != columns:
            self._shapes[statement.name] = distinct(statement, columns)
            self._has_news = True
        self._broken.pop(statement.name, None)

    def _relearn(self, statement: Statement, columns: tuple[Column, ...]) -> None:
        """Learn from a call, which finds a changed schema first."""
        self._learn(statement, columns)
        self._tell_news()

    def _tell_news(self) -> None:
        if self._has_news:
            self._has_news = False
            self._on_shapes()


def distinct(statement: Statement, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns, if every one has a name of its own.

    Raises:
        ToolError: STATEMENT_INVALID naming the columns that share a name; rows are JSON objects.
    """
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise failure(
            Code.STATEMENT_INVALID,
            f"two columns are named {', '.join(map(repr, twice))}; give each a name of its own with AS",
        )
    return columns


@asynccontextmanager
async def open_sources(
    settings: GatewaySettings,
    engines: Mapping[str, Engine],
    statements: Mapping[str, Sequence[Statement]],
    on_shapes: Callable[[], None] = lambda: None,
) -> AsyncIterator[Mapping[str, Source]]:
    """Every configured source, connecting in the background; closed at the end, all at once and bounded.

    Args:
        settings: the configuration.
        engines: an engine for each source, by the source's name.
        statements: the tools' statements, by the source's name.
        on_shapes: called when the columns of results became known, or became others; must not block.
    """
    sources = {
        name: Source(name, source, engines[name], statements.get(name, ()), on_shapes)
        for name, source in settings.sources.items()
    }
    try:
        for source in sources.values():
            source.start()
        yield MappingProxyType(sources)
    finally:
        await asyncio.gather(*(source.close() for source in sources.values()))
