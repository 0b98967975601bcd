"""The configured databases: each with its engine, its pool, and what is known of its statements."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

from gateway.config.sources import AnySource
from gateway.context import Call, Principal
from gateway.database.care import PoolStats, PoolTimes
from gateway.database.engine import Column, Engine, Statement
from gateway.database.failures import failure
from gateway.database.identity import identity_of
from gateway.database.lease import Lease
from gateway.database.pool import Pool
from gateway.database.pools import Pools
from gateway.database.session import Session
from gateway.errors import Code, GatewayError, ToolError
from gateway.net.tls import Sighting
from gateway.resilience.alarms import Alarms
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
    """One database as the tools of one configuration see it.

    Attributes:
        name: as configured.
        settings: as configured.
        engine: how it is reached.
        required: whether the process is unready without it.
        pools: its connections, which the next configuration takes over if it configures the source alike.
        shapes_version: how often `shapes` has changed.

    Args:
        name: as configured.
        settings: as configured.
        pools: its connections.
        statements: of the tools that ask it.
        before: the same source in the configuration before, if it has the same pools.
    """

    def __init__(
        self,
        name: str,
        settings: AnySource,
        pools: Pools,
        statements: Sequence[Statement],
        before: Source | None = None,
        on_shapes: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.required = settings.required
        self.engine = pools.engine
        self.pools = pools
        self._statements = tuple(statements)
        self._shapes: dict[str, tuple[Column, ...]] = {}
        self._on_shapes = on_shapes
        self._has_news = False
        self.shapes_version = 0
        self._broken: dict[str, ToolError] = {}
        self._broken_view = MappingProxyType(self._broken)
        self._preparing: asyncio.Task[None] | None = None
        self._alarms = Alarms()
        self._began_down = before is not None and not pools.is_up
        if before is not None:
            self._inherit(before)

    def _inherit(self, before: Source) -> None:
        """What is known of the statements that stay."""
        known = {statement.name: statement for statement in before._statements}
        for statement in self._statements:
            if known.get(statement.name) == statement and statement.name in before.shapes:
                self._shapes[statement.name] = before.shapes[statement.name]

    @property
    def is_up(self) -> bool:
        """Whether the database was reached and has not been lost since."""
        return self.pools.is_up

    @property
    def is_settled(self) -> bool:
        """Whether the database has judged every statement, or was handed over while it was down."""
        if not self.is_up:
            return self._began_down
        return all(each.name in self._shapes or each.name in self._broken for each in self._statements)

    @property
    def trouble(self) -> str:
        """Why the source is down, in the operator's words; "" when it is up."""
        return self.pools.trouble

    @property
    def breaker(self) -> str:
        """The state of the circuit breaker: closed, open or half-open."""
        return self.pools.breaker

    @property
    def stats(self) -> PoolStats:
        """The numbers now, of all accounts together."""
        return self.pools.stats

    @property
    def certificate_expires_at(self) -> float | None:
        """When the certificate expires that the server showed last, in Unix time; None where none was seen."""
        return _end(getattr(self.engine, "sighting", None))

    @property
    def token_certificate_expires_at(self) -> float | None:
        """The same of the endpoint that gives the tokens the source logs in with."""
        return _end(getattr(self.engine, "token_sighting", None))

    @property
    def times(self) -> PoolTimes:
        """What callers waited for since the start, over all accounts."""
        return self.pools.times

    @property
    def shapes(self) -> Mapping[str, tuple[Column, ...]]:
        """The columns of each tool's result, as far as the database has told."""
        return MappingProxyType(self._shapes)

    @property
    def broken(self) -> Mapping[str, ToolError]:
        """The statements that the database refused, and why."""
        return self._broken_view

    def lease(self, call: Call, patience: Patience | None = None) -> AbstractAsyncContextManager[Session]:
        """Borrow a connection for the length of the block; see `Pool.lease` for what entering raises.

        Args:
            call: who asks, and until when.
            patience: the waiting that all attempts of the call share; `acquire_timeout` when absent.

        Raises:
            ToolError: ACCESS_DENIED when the token lacks what the session must be told, or no account is for it.
        """
        identity = identity_of(self.settings.session, call)
        pool, engine = self.pools.choose(call)
        patience = patience or self.patience()
        return self.pools.in_turn(call, patience, self._lend(call, identity, patience, pool, engine))

    def _lend(
        self,
        call: Call,
        identity: Mapping[str, str],
        patience: Patience | None = None,
        pool: Pool | None = None,
        engine: Engine | None = None,
    ) -> Lease[Session]:
        limit, learn, alarms = self.settings.statement_timeout, self._relearn, self._alarms
        lender, used = pool or self.pools.own, engine or self.engine
        return Lease(lender, call, patience, lambda member: Session(member, used, limit, learn, alarms, identity))

    def patience(self) -> Patience:
        """The waiting that one call may do."""
        return Patience(self.settings.pool.acquire_timeout)

    def start(self) -> None:
        """Prepare what is not known yet, as soon as the database is reached."""
        self.pools.listen(self._came_up)
        if self.is_up:
            self._prepare_in_background({each.name for each in self._statements} - self._shapes.keys())

    async def stop(self) -> None:
        """Have nothing to do with the pools any more; they stay open."""
        self.pools.forget(self._came_up)
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait({self._preparing})

    def _came_up(self) -> None:
        self._prepare_in_background({statement.name for statement in self._statements})

    def _prepare_in_background(self, missing: set[str]) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = asyncio.get_running_loop().create_task(self._prepare(missing))

    async def _prepare(self, missing: set[str]) -> None:
        """Prepare statements; again, from time to time, those that did not go."""
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
            self.shapes_version += 1
            self._has_news = True
        self._broken.pop(statement.name, None)

    def _relearn(self, statement: Statement, columns: tuple[Column, ...]) -> None:
        """Learn from a call, which finds a changed schema first."""
        if self._shapes.get(statement.name) is columns and not self._broken:
            return
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
async def open_pools(name: str, settings: AnySource, engine: Engine) -> AsyncIterator[Pools]:
    """The connections of a source, opening in the background; closed at the end, bounded."""
    pools = Pools(name, settings, engine, build_engine)
    try:
        pools.start()
        yield pools
    finally:
        await pools.close()


def _end(sighting: Sighting | None) -> float | None:
    return sighting.expires_at if sighting is not None else None
