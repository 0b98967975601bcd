"""MySQL and MariaDB: aiomysql's connection, server-side prepared statements, KILL QUERY to stop."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from pymysql.err import MySQLError

from gateway.config.models import MysqlSettings
from gateway.context import Report
from gateway.database import mysql_errors
from gateway.database.engine import Column, Statement, Table
from gateway.database.failures import failure
from gateway.database.mysql_types import column_of
from gateway.database.mysql_wire import Execution, Link, Prepared
from gateway.database.tls import client_context
from gateway.errors import Code, ToolError

T = TypeVar("T")

_PROGRESS_EVERY: Final = 1000
_DRAIN: Final = 1000
"""Rows beyond the limit that are read to the end; for more, the query is killed instead."""
_KILL_LIMIT: Final = 2.0
_SERVER_MARGIN: Final = 1.0
"""Seconds by which the server's own limit is later than ours: the second fence."""
_CALLED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_$]*)\s*\(")
_HARMLESS: Final = frozenset(
    ["abs", "all", "and", "any", "as", "asc", "avg", "between", "bigint", "binary", "case", "cast", "ceil", "ceiling", "char", "char_length", "coalesce", "concat", "concat_ws", "convert", "count", "cume_dist", "curdate", "current_date", "current_time", "current_timestamp", "date", "date_add", "date_format", "date_sub", "datediff", "datetime", "day", "dayofmonth", "dayofweek", "decimal", "dense_rank", "desc", "distinct", "else", "exists", "exp", "extract", "first_value", "floor", "format", "from", "from_unixtime", "greatest", "group_concat", "having", "hex", "hour", "if", "ifnull", "in", "instr", "int", "interval", "isnull", "join", "json_array", "json_arrayagg", "json_contains", "json_extract", "json_length", "json_object", "json_objectagg", "json_unquote", "json_value", "lag", "last_value", "lcase", "lead", "least", "left", "length", "like", "ln", "locate", "log", "lower", "lpad", "ltrim", "max", "mid", "min", "minute", "mod", "month", "monthname", "not", "now", "nth_value", "ntile", "nullif", "on", "or", "order", "over", "partition", "percent_rank", "pow", "power", "quarter", "rand", "rank", "recursive", "regexp", "repeat", "replace", "reverse", "right", "round", "row_number", "rpad", "rtrim", "second", "select", "sign", "signed", "sqrt", "stddev", "substr", "substring", "sum", "then", "time", "timestampdiff", "trim", "truncate", "ucase", "unhex", "union", "unsigned", "upper", "using", "utc_timestamp", "values", "varchar", "variance", "week", "weekday", "when", "where", "with", "year"]
)
"""Names before a parenthesis that leave nothing in a session: built-in functions, types and keywords."""


def leaves_nothing(text: str) -> bool:
    """Whether a statement provably leaves no session state: no variables, locks or functions that we do not know."""
    lowered = text.lower()
    if "@" in text or not lowered.lstrip("( \t\r\n").startswith(("select", "with", "values", "show")):
        return False
    return "into" not in lowered and all(name in _HARMLESS for name in _CALLED.findall(lowered))


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
        self._context: ssl.SSLContext | None = None
        self._is_context_made = False

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
        except BaseException:
            connection.abort()
            raise
        return connection

    def _link(self) -> Link:
        settings = self._settings
        if not self._is_context_made:
            self._context = client_context(settings.tls, settings.host)
            self._is_context_made = True
        password = settings.password.get_secret_value() if settings.password else ""
        is_socket = settings.host.startswith("/")
        return Link(
            must_encrypt=self._context is not None,
            host="localhost" if is_socket else settings.host,
            port=settings.port,
            unix_socket=settings.host if is_socket else None,
            user=settings.user,
            password=password,
            db=settings.database,
            ssl=self._context,
            program_name=f"mcp-database-gateway/{self._name}",
        )

    def translate(self, error: BaseException) -> ToolError:
        """Name an exception of aiomysql, of TLS or of the socket."""
        return mysql_errors.translate(error)


class MysqlConnection:
    """One connection. A run that is cancelled kills its query and reads what the server says to it."""

    def __init__(self, link: Link, another: Callable[[], Link], settings: MysqlSettings) -> None:
        self._link = link
        self._another = another
        self._settings = settings
        self._prepared: dict[str, tuple[str, Prepared, tuple[Column, ...]]] = {}
        self._is_reading = settings.access == "read-only"
        self._running: asyncio.Future[Any] | None = None
        self._stopping: asyncio.Future[None] | None = None
        self.needs_reset = False
        self.is_committing = False

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return self._link.is_closed

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

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        """Run with bind variables; a write commits, a read runs in a read-only session."""
        return await self._stoppable(self._run(statement, values, max_rows, report))

    async def _run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        prepared, _ = await self._prepare(statement)
        if not statement.writes:
            self.needs_reset = self.needs_reset or not leaves_nothing(statement.text)
            return await self._fetch(await self._link.execute(prepared, values), max_rows, report)
        self.needs_reset = True
        await self._link.command("start transaction")
        table = await self._fetch(await self._link.execute(prepared, values), max_rows, report)
        self.is_committing = True
        await self._link.command("commit")
        self.is_committing = False
        return Table(table.columns, table.rows, table.is_truncated, table.affected or 0)

    async def _fetch(self, execution: Execution, max_rows: int, report: Report) -> Table:
        """At most `max_rows` rows and one to know; what is beyond is drained, or killed when it is much."""
        columns = tuple(column_of(field) for field in execution.fields)
        rows: list[list[Any]] = []
        beyond = 0
        try:
            while (row := await execution.next_row()) is not None:
                if len(rows) < max_rows:
                    rows.append(row)
                    if len(rows) % _PROGRESS_EVERY == 0:
                        report(f"{len(rows)} rows read")
                    continue
                beyond += 1
                if beyond == _DRAIN:
                    await self._kill()
        except MySQLError as error:
            if beyond < _DRAIN or not mysql_errors.is_stopped(error):
                raise
        report(f"{len(rows)} rows read")
        return Table(columns, rows, beyond > 0, execution.affected if not columns else None)

    async def _stoppable(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the wire in a task of its own: cancelled itself, it would close the socket, not end the query."""
        running = self._running = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not running.done():
                self._stopping = asyncio.ensure_future(self._stop(running))
                await asyncio.shield(self._stopping)
            raise

    async def _stop(self, running: asyncio.Future[Any]) -> None:
        """Kill the query and wait for the server's word; without one the connection is dropped."""
        try:
            async with asyncio.timeout(_KILL_LIMIT):
                await self._kill()
                await asyncio.wait({running})
        except (TimeoutError, MySQLError, OSError):
            self.abort()
        if not running.done():
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

    async def reset(self) -> None:
        """COM_RESET_CONNECTION, and the session set up again."""
        if self._running is not None and not self._running.done():
            await asyncio.gather(self._running, return_exceptions=True)
        await self._link.reset()
        self._prepared.clear()
        await self.prepare_session()
        self.needs_reset = self.is_committing = False

    async def close(self) -> None:
        """COM_QUIT."""
        await self._link.ensure_closed()

    def abort(self) -> None:
        """Drop the socket."""
        self._link.close()
