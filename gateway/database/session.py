"""One caller's use of one connection: limits, failures and progress around the engine's run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from gateway.context import Call, Report, ignore
from gateway.database.care import Member
from gateway.database.engine import Column, Engine, Identifiable, Statement, Table
from gateway.database.failures import failure, without_values
from gateway.errors import Code, ToolError
from gateway.resilience.alarms import Alarms, Limit


class Session:
    """A leased connection, for as long as the lease.

    Args:
        member: the pool's connection.
        engine: names its failures.
        statement_timeout: seconds that one statement may take.
        learn: told the columns of every result.
        identity: what the database is told of the caller.
        alarms: for the statement's limit.
    """

    __slots__ = ("_alarms", "_engine", "_identity", "_learn", "_member", "_statement_timeout")

    def __init__(
        self,
        member: Member,
        engine: Engine,
        statement_timeout: float,
        learn: Callable[[Statement, tuple[Column, ...]], None],
        alarms: Alarms,
        identity: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._member = member
        self._engine = engine
        self._statement_timeout = statement_timeout
        self._learn = learn
        self._alarms = alarms
        self._identity = identity

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, call: Call) -> Table:
        """Run one statement with bind variables, within its limit and the call's deadline.

        Raises:
            ToolError: whatever went wrong, named by its code; STATEMENT_TIMEOUT when it was stopped.
        """
        member = self._member
        limit = min(self._statement_timeout, call.remaining())
        report = _timed(call.report)
        call.report("running")
        self._identify()
        member.is_dirty = True
        scope = Limit(self._alarms, limit)
        try:
            async with scope:
                table = await member.connection.run(statement, values, max_rows, report)
        except Exception as error:
            named = without_values(self._name(error, statement, limit if scope.has_expired else None), error)
            # Nobody can tell what a broken connection still carried; an engine's own verdict knows.
            named.is_sent = named.is_sent or not isinstance(error, ToolError)
            raise named from error
        member.is_dirty = False
        self._learn(statement, table.columns)
        if report is not ignore:
            report(f"{len(table.rows)} rows read" if table.affected is None else f"{table.affected} rows changed")
        return table

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Prepare a statement on the server, within its limit; its columns.

        Raises:
            ToolError: STATEMENT_INVALID and what is wrong, or why the database could not be asked.
        """
        member = self._member
        member.is_dirty = True
        scope = asyncio.timeout(self._statement_timeout)
        try:
            async with scope:
                columns = await member.connection.describe(statement)
        except Exception as error:
            raise self._name(error, statement, self._statement_timeout if scope.expired() else None) from error
        member.is_dirty = False
        return columns

    def _identify(self) -> None:
        """Tell the connection who calls; one that cannot be told is not used for a caller who must be."""
        connection = self._member.connection
        if _can_identify(type(connection)):
            connection.identify(self._identity)  # type: ignore[attr-defined]
        elif self._identity:
            raise failure(Code.INTERNAL, f"{type(connection).__name__} cannot tell the database who calls")

    def _name(self, error: Exception, statement: Statement, limit: float | None) -> ToolError:
        """The failure in our words; for a write that may have happened, exactly that."""
        if limit is not None:
            named = failure(Code.STATEMENT_TIMEOUT, f"{statement.name} was stopped after {limit:.3f} s", is_sent=True)
        else:
            named = self._engine.translate(error)
        is_lost = named.code is Code.CONNECTION_LOST or self._member.connection.is_closed
        self._member.is_lost = is_lost
        if statement.writes and (is_lost or self._member.connection.is_committing):
            return failure(Code.OUTCOME_UNKNOWN, f"{named.code}: {named.detail}", is_sent=True)
        if is_lost and named.code is Code.SOURCE_UNAVAILABLE:
            return failure(Code.CONNECTION_LOST, named.detail, is_sent=True)
        return named


@cache
def _can_identify(kind: type) -> bool:
    """Whether a kind of connection is Identifiable; asking the protocol itself takes longer than telling."""
    return issubclass(kind, Identifiable)


def _timed(report: Report) -> Report:
    """The report with the time since now at the end of each line."""
    if report is ignore:
        return ignore
    started = time.monotonic()
    return lambda line: report(f"{line} after {(time.monotonic() - started) * 1000:.0f} ms")
