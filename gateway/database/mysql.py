"""MySQL and MariaDB: aiomysql's connection, server-side prepared statements, KILL QUERY to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from pymysql.err import MySQLError

from gateway.config.sources import MysqlSettings
from gateway.context import Report
from gateway.database import mysql_errors as errors
from gateway.database import mysql_identity, tls
from gateway.database.engine import Audit, Column, Statement, Table
from gateway.database.failures import failure
from gateway.database.mysql_binding import bind
from gateway.database.mysql_leftovers import leaves_nothing
from gateway.database.mysql_types import column_of
from gateway.database.mysql_wire import Execution, Link, Prepared
from gateway.errors import Code, ToolError
from gateway.net.tls import Sighting

T = TypeVar("T")

_PROGRESS_EVERY: Final = 1000
_DRAIN: Final = 200
"""Rows beyond the limit that are read to the end; for more, the query is killed instead."""
_KILL_LIMIT: Final = 2.0
"""Seconds until a connection whose query cannot be killed is dropped."""
_KILL_WAIT: Final = 0.25
"""Seconds of those that the caller waits too; a kill takes a millisecond."""
_SERVER_MARGIN: Final = 1.0
"""Seconds by which the server's own limit is later than ours: the second fence."""


class MysqlEngine:
    """One MySQL or MariaDB database, reached with one account.

    Args:
        settings: where and as whom.
        name: the source's name, shown in the server's session view.
    """

    dialect = "mysql"

    def __init__(self, settings: MysqlSettings, name: str = "") -> None:
        self._settings = settings
        self._name = name
        self.sighting = Sighting()

    def placeholder(self, position: int, name: str) -> str:
        """MySQL's positional placeholder."""
        return "?"

    async def connect(self) -> MysqlConnection:
        """Open, encrypt, log in, and set the session up."""
        link = self._link()
        connection = MysqlConnection(link, self._link, self._settings)
        try:
            await link.open()
            await connection.prepare_session()
        except MySQLError as error:
            connection.abort()
            raise errors.login(error, has_certificate=self._settings.tls.certificate is not None) from error
        except BaseException:
            connection.abort()
            raise
        return connection

    def _link(self) -> Link:
        settings = self._settings
        context = tls.context_of(settings.tls, settings.host, self.sighting)
        password = settings.password.get_secret_value() if settings.password else ""
        is_socket = settings.host.startswith("/")
        return Link(
            must_encrypt=context is not None,
            host="localhost" if is_socket else settings.host,
            port=settings.port,
            unix_socket=settings.host if is_socket else None,
            user=settings.user,
            password=password,
            db=settings.database,
            ssl=context,
            program_name=f"mcp-database-gateway/{self._name}",
        )

    def translate(self, error: BaseException) -> ToolError:
        """Name an exception of aiomysql, of TLS or of the socket."""
        if isinstance(error, tls.TlsUnusable):
            return failure(Code.SOURCE_UNAVAILABLE, error.message)
        return errors.translate(error)


class MysqlConnection:
    """One connection. A run that is cancelled kills its query and reads what the server says to it."""

    def __init__(self, link: Link, another: Callable[[], Link], settings: MysqlSettings) -> None:
        self._link = link
        self._another = another
        self._settings = settings
        self._prepared: dict[str, tuple[str, Prepared, tuple[Column, ...]]] = {}
        self._is_reading = settings.access == "read-only"
        self._stopping: asyncio.Future[None] | None = None
        self._is_leaving = False
        self._identity: Mapping[str, str] = {}
        self.needs_reset = False
        self.is_committing = False

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be gone; what is left of its socket goes too."""
        if self._link.is_closed:
            self._link.close()
            return True
        return False

    async def prepare_session(self) -> None:
        """The settings that every run relies on."""
        seconds = self._settings.statement_timeout + _SERVER_MARGIN
        # MariaDB counts seconds for every statement, MySQL milliseconds for SELECT only.
        milliseconds = f"max_execution_time = {seconds * 1000:.0f}"
        limit = f"max_statement_time = {seconds:g}" if self._link.is_mariadb else milliseconds
        await self._link.command(f"set names utf8mb4, time_zone = '+00:00', autocommit = 1, {limit}")
        await self._set_reading(is_reading=True, is_forced=True)

    async def _set_reading(self, *, is_reading: bool, is_forced: bool = False) -> None:
        # The session's mode, because START TRANSACTION READ ONLY still lets MariaDB create and drop tables.
        if is_reading != self._is_reading or is_forced:
            await self._link.command(f"set session transaction read {'only' if is_reading else 'write'}")
            self._is_reading = is_reading

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Prepare on the server; its columns."""
        _, columns = await self._stoppable(self._prepare(statement))
        return columns

    async def _prepare(self, statement: Statement) -> tuple[Prepared, tuple[Column, ...]]:
        # Before preparing, because a read-only session refuses to prepare some writes.
        await self._set_reading(is_reading=not statement.writes)
        known = self._prepared.get(statement.name)
        if known is not None:
            if known[0] == statement.text:
                return known[1], known[2]
            self._link.forget(self._prepared.pop(statement.name)[1])
        prepared = await self._link.prepare(statement.text)
        columns = tuple(column_of(field) for field in prepared.fields)
        if prepared.parameter_count != len(statement.parameters):
            raise failure(Code.STATEMENT_INVALID, f"the server sees {prepared.parameter_count} parameters")
        self._prepared[statement.name] = (statement.text, prepared, columns)
        return prepared, columns

    def identify(self, values: Mapping[str, str]) -> None:
        """User variables for the next run; the reset after it forgets them."""
        self._identity = values

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        """Run with bind variables; a write commits, a read runs in a read-only session.

        A caller who leaves once the commit was sent leaves `is_committing` set, whatever came of it.
        """
        table = await self._stoppable(self._run(statement, values, max_rows, report))
        self.is_committing = False
        return table

    async def _run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        parameters = bind(statement, values)
        if self._identity:
            self.needs_reset = True
            await mysql_identity.tell(self._link, self._identity)
            if known := self._prepared.pop(statement.name, None):  # MySQL fixes a variable's type when it prepares
                self._link.forget(known[1])
        prepared, _ = await self._prepare(statement)
        if not statement.writes:
            self.needs_reset = self.needs_reset or not leaves_nothing(statement.text)
            return await self._fetch(await self._link.execute(prepared, parameters), max_rows, report)
        self.needs_reset = True
        await self._link.command("start transaction")
        execution = await self._link.execute(prepared, parameters)
        table = await self._fetch(execution, max_rows, report, is_whole=True)
        if self._is_leaving:
            raise asyncio.CancelledError  # the kill came after the last row; nobody waits for a commit
        await self._commit()
        return table

    async def _commit(self) -> None:
        self.is_committing = True
        try:
            await self._link.command("commit")
        except MySQLError as error:
            is_open = self.is_closed or errors.is_lost(error) or errors.is_stopped(error)
            self.is_committing = is_open  # else the server has answered: undone
            raise

    async def _fetch(self, execution: Execution, max_rows: int, report: Report, *, is_whole: bool = False) -> Table:
        """At most `max_rows` rows and one to know; what is beyond is drained, or killed when it is much."""
        columns = tuple(column_of(field) for field in execution.fields)
        rows: list[list[Any]] = []
        count = 0
        trouble: ToolError | None = None
        while True:
            try:
                row = await execution.next_row()
            except ToolError as error:  # a value that cannot be shown; the rows after it must be read all the same
                row, trouble = [], trouble or error
            if row is None:
                break
            if self._is_leaving or (count == max_rows + _DRAIN and not is_whole):
                await self._skip_rest()
                break
            count += 1
            if count <= max_rows:
                rows.append(row)
                if count % _PROGRESS_EVERY == 0:
                    report(f"{count} rows read")
        if trouble is not None:
            raise trouble
        affected = (count if columns else execution.affected) if is_whole else None
        return Table(columns, rows, count > max_rows, affected)

    async def _skip_rest(self) -> None:
        """End a query of which enough was read; where that fails the connection ends with it."""
        # The kill may come after the last row, and would then hit what runs next.
        self.needs_reset = True
        try:
            async with asyncio.timeout(_KILL_LIMIT):
                if not self._is_leaving:
                    await self._kill()
                await self._link.skip_rows()
        except (TimeoutError, MySQLError, OSError):
            self._link.close()

    async def _stoppable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the wire in a task of its own: cancelled itself, it would close the socket, not end the query."""
        running = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._is_leaving = True
            self._stopping = asyncio.ensure_future(self._stop(running))
            await asyncio.wait({self._stopping}, timeout=_KILL_WAIT)
            raise

    async def _stop(self, running: asyncio.Future[Any]) -> None:
        """Kill the query and wait for the server's word; without one the connection is dropped."""
        try:
            async with asyncio.timeout(_KILL_LIMIT):
                if not running.done():
                    await self._kill()
                await asyncio.wait({running})
        except (TimeoutError, MySQLError, OSError):
            self._link.close()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _kill(self) -> None:
        """KILL QUERY from a side connection; one millisecond, and this connection stays usable."""
        side = self._another()
        try:
            await side.open()
            await side.command(f"kill query {self._link.thread_id()}")
        finally:
            side.close()

    async def ping(self) -> None:
        """COM_PING."""
        await self._link.ping(reconnect=False)

    async def audit(self) -> Audit:
        """What the account may do here."""
        return await self._stoppable(mysql_identity.audit(self._link))

    async def reset(self) -> None:
        """COM_RESET_CONNECTION, and the session set up again."""
        if self._stopping is not None:
            await asyncio.wait({self._stopping})
            self._stopping = None
            self._is_leaving = False
        await self._link.reset()
        await self._link.select_db(self._settings.database)  # the one thing that it leaves as it is
        self._prepared.clear()
        await self.prepare_session()
        self.needs_reset = self.is_committing = False
        self._identity = {}

    async def close(self) -> None:
        """COM_QUIT."""
        await self._link.ensure_closed()

    def abort(self) -> None:
        """Drop the socket."""
        if self._stopping is not None:
            self._stopping.cancel()
        self._link.close()
