"""One connection to Oracle: a transaction for each call, exact types, a session left as it was found."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import oracledb

from gateway.config.sources import OracleSettings
from gateway.context import Report
from gateway.database import oracle_errors as errors
from gateway.database import oracle_exact as exact
from gateway.database import oracle_identity as identity
from gateway.database import oracle_outputs as outputs
from gateway.database import oracle_types as types
from gateway.database.engine import Audit, Column, Statement, Table
from gateway.database.failures import failure
from gateway.database.oracle_audit import audit
from gateway.database.oracle_binding import bind, check_names, has_booleans, sizes_of
from gateway.database.oracle_link import Link
from gateway.database.oracle_rows import Reader
from gateway.database.oracle_statement import Form, bare, form_of, leaves_nothing, sendable
from gateway.errors import Code, ToolError

T = TypeVar("T")

_BATCH: Final = 500
_MOST_QUERIES: Final = 1000
_STOP_LIMIT: Final = 2.0
"""Seconds that the server has to answer a break, until the connection is dropped."""
_STOP_WAIT: Final = 0.25
"""Seconds of those that the caller waits too; a break takes a round trip."""
_SESSION: Final = (
    "alter session set time_zone = '+00:00' nls_calendar = 'GREGORIAN'"
    " nls_date_format = 'YYYY-MM-DD\"T\"HH24:MI:SS'"
    " nls_timestamp_format = 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6'"
    " nls_timestamp_tz_format = 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6TZH:TZM'"
    " nls_numeric_characters = '.,'"
)
"""What makes conversions between text and other types the same whatever the server's territory is."""
_AS_WRITTEN: Final = exact.Query()
_WIPE: Final = "dbms_session.modify_package_state(dbms_session.reinitialize);"


class OracleConnection:
    """One connection. A read leaves its transaction open; `reset` ends it, off the caller's path.

    Args:
        link: the driver's connection.
        settings: the source's.
        source: its name.
        queries: how each query is sent, as far as known; shared by an engine's connections.
    """

    def __init__(self, link: Link, settings: OracleSettings, source: str, queries: dict[str, exact.Query]) -> None:
        self._link = link
        self._raw = link.raw
        self._settings = settings
        self._source = source
        self._queries = queries
        self._has_booleans = has_booleans(link.raw.version)
        self._stopping: asyncio.Future[None] | None = None
        self._identity: Mapping[str, str] = {}
        self._is_told = False
        self._is_clean = True
        self.needs_reset = False
        self.is_committing = False

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be gone; what is left of its sockets goes too."""
        if self._link.is_closed:
            self._link.abort()
            return True
        return False

    async def prepare_session(self) -> None:
        """The settings that every run relies on."""
        await self._execute(_SESSION)

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Let the server parse the statement; its columns.

        Raises:
            ToolError: STATEMENT_INVALID with the server's words and the position, or with what cannot be bound.
        """
        return await self._stoppable(self._describe(statement))

    async def _describe(self, statement: Statement) -> tuple[Column, ...]:
        text = self._admitted(statement)
        with self._raw.cursor() as cursor:
            cursor.outputtypehandler = types.fetch_as
            try:
                cursor.prepare(text)
                check_names(statement, cursor.bindnames())
                if form_of(text) is Form.OTHER:
                    return ()  # it would run as it is parsed
                query = await self._parsed(cursor, text)
            except oracledb.DatabaseError as error:
                raise errors.at_position(error, text) from error
            return outputs.columns_of(statement.outputs) or query.columns or types.columns_of(cursor.description)

    async def _parsed(self, cursor: Any, text: str) -> exact.Query:
        """Let the server parse a statement; find out, and keep, which of its columns have to be asked for as text."""
        await _parse(cursor, text)
        described = cursor.description
        query = exact.query_of(described)
        if query.columns is not None:
            try:
                await _parse(cursor, query.sent(text))
            except oracledb.DatabaseError as error:
                raise exact.refused(described, errors.translate(error).detail) from error
            exact.check(query, described, cursor.description)
        if len(self._queries) >= _MOST_QUERIES:
            self._queries.clear()
        self._queries[bare(text)] = query
        return query

    async def _query(self, text: str) -> exact.Query:
        """How a statement is sent: known since it was prepared, or found out now."""
        if (known := self._queries.get(bare(text))) is not None:
            return known
        if form_of(text) is not Form.QUERY:
            return _AS_WRITTEN
        with self._raw.cursor() as cursor:
            cursor.outputtypehandler = types.fetch_as
            return await self._parsed(cursor, text)

    def identify(self, values: Mapping[str, str]) -> None:
        """Application contexts and the client's identifier for the next run; the reset after it clears them."""
        self._identity = values

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        """Run with bind variables; a write commits, a read runs in a read-only transaction."""
        return await self._stoppable(self._run(statement, values, max_rows, report))

    async def _run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        text = self._admitted(statement)
        bound = bind(statement, values, has_booleans=self._has_booleans)
        self.needs_reset, self._is_clean = True, False
        query = await self._query(text)
        try:
            return await self._ran(statement, text, query, bound, max_rows, report)
        except (oracledb.Error, ToolError):
            self._queries.pop(bare(text), None)  # the schema may be another now: it is parsed again next time
            raise

    async def _ran(
        self,
        statement: Statement,
        text: str,
        query: exact.Query,
        bound: Mapping[str, Any],
        max_rows: int,
        report: Report,
    ) -> Table:
        has_contexts = await self._begin(statement)
        with self._raw.cursor() as cursor:
            cursor.outputtypehandler = types.fetch_as
            cursor.arraysize = cursor.prefetchrows = min(max_rows + 1, _BATCH)
            if sizes := sizes_of(statement, has_booleans=self._has_booleans):
                cursor.setinputsizes(**sizes)
            given = outputs.variables(cursor, statement.outputs, cursor.arraysize)
            await cursor.execute(query.sent(text), {**bound, **given}, fetch_lobs=True)
            if statement.outputs:
                found = [given[outputs.name_of(index)] for index in range(1, len(given) + 1)]
                table = await outputs.table_of(statement.outputs, found, max_rows, self._settings.max_lob_bytes, report)
                await self._commit()
                return table
            reader = Reader(cursor, self._settings.max_lob_bytes, query)
            rows, count = await reader.rows(max_rows, report, is_whole=statement.writes)
            affected = None
            if statement.writes:
                affected = cursor.rowcount if form_of(text) is Form.CHANGE else None
                await self._commit()
            else:
                self._is_clean = not has_contexts and leaves_nothing(text)
            return Table(reader.columns, rows, count > max_rows, affected)

    def _admitted(self, statement: Statement) -> str:
        """The text to send.

        Raises:
            ToolError: READ_ONLY for what is no query, since a read-only transaction does not stop definitions.
        """
        text = sendable(statement.text)
        if not statement.writes and form_of(text) is not Form.QUERY:
            raise failure(Code.READ_ONLY, "a tool that reads runs nothing but queries")
        return text

    async def _begin(self, statement: Statement) -> bool:
        """Tell the session who calls, and begin a read-only transaction: all in one round trip.

        Returns whether application contexts were set.
        """
        identity.announce(self._raw, self._source, statement.name, self._identity)
        self._is_told = self._is_told or bool(self._identity)
        block, values = identity.contexts(self._settings.context_procedure, self._identity)
        if block:
            reading = "" if statement.writes else "set transaction read only; "
            await self._execute(f"begin {reading}{block}end;", values)
        elif not statement.writes:
            await self._execute("set transaction read only")
        return bool(block)

    async def _commit(self) -> None:
        self.is_committing = True
        try:
            await self._raw.commit()
        except oracledb.DatabaseError as error:
            is_open = self.is_closed or errors.translate(error).code in (Code.CONNECTION_LOST, Code.STATEMENT_TIMEOUT)
            self.is_committing = is_open  # else the server has answered: undone
            raise
        self.is_committing = False

    async def _execute(self, text: str, values: Mapping[str, Any] | None = None) -> None:
        with self._raw.cursor() as cursor:
            await cursor.execute(text, values)

    async def _stoppable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work in a task of its own: cancelled itself, it would wait for the server's word without a limit."""
        running = asyncio.ensure_future(self._dropping(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._stopping = asyncio.ensure_future(self._stop(running))
            await asyncio.wait({self._stopping}, timeout=_STOP_WAIT)
            raise

    async def _dropping(self, work: Coroutine[Any, Any, T]) -> T:
        """Drop the sockets as soon as work finds the connection broken: the driver takes no more from them."""
        try:
            return await work
        except BaseException:
            if self._link.is_closed:
                self.abort()
            raise

    async def _stop(self, running: asyncio.Future[Any]) -> None:
        """Break the call off, so that it fails with ORA-01013; a server that does not answer loses its connection.

        The call is not cancelled: an answer that then arrives would break the connection.
        """
        if not (running.done() or self.is_closed):
            self._raw.cancel()
        await asyncio.wait({running}, timeout=_STOP_LIMIT)
        if not running.done():
            self.abort()
        await asyncio.gather(running, return_exceptions=True)

    async def ping(self) -> None:
        """The driver's ping: one round trip."""
        await self._dropping(self._raw.ping())

    async def audit(self) -> Audit:
        """What the account may do here."""
        return await self._stoppable(audit(self._raw, self._settings))

    async def reset(self) -> None:
        """End the transaction; forget package state, contexts and the caller's name.

        After a read that leaves nothing, ending the transaction is all.
        """
        if self._stopping is not None:
            await asyncio.wait({self._stopping})
            self._stopping = None
        await self._dropping(self._reset())

    async def _reset(self) -> None:
        if self._is_told:
            identity.forget(self._raw)
        await self._raw.rollback()
        if not self._is_clean:
            block, values = identity.contexts(self._settings.context_procedure, dict.fromkeys(self._identity))
            await self._execute(f"begin {block}{_WIPE} end;", values)
        self._identity, self._is_told, self._is_clean = {}, False, True
        self.needs_reset = self.is_committing = False

    async def close(self) -> None:
        """Log off and close the socket."""
        try:
            await self._raw.close()
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the socket."""
        self._link.abort()


async def _parse(cursor: Any, text: str) -> None:
    # As if it were new: of a statement that it kept, the driver would not tell the types of the binds once more.
    cursor.prepare(text, cache_statement=False)
    await cursor.parse(text)
