"""PostgreSQL by asyncpg: exact types, a transaction for each call, cancelled on the server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from gateway.config.models import PostgresqlSettings
from gateway.context import Report
from gateway.database import postgresql_audit, tls
from gateway.database import postgresql_binding as binding
from gateway.database import postgresql_errors as errors
from gateway.database import postgresql_types as types
from gateway.database.engine import Audit, Column, Statement, Table
from gateway.database.failures import failure
from gateway.database.postgresql_traces import Traces
from gateway.errors import Code, ToolError

_BATCH: Final = 500
_FENCE: Final = 1.0
"""Seconds by which the server's own statement limit lies above ours."""
_RESET: Final = (
    "set session authorization default; reset all; close all; unlisten *;"
    " select pg_advisory_unlock_all(); discard temp; discard sequences"
)
"""What DISCARD ALL does, except that prepared statements stay."""
_IDENTIFY: Final = "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as told(name, value)"
_CHANGING: Final = ("insert", "update", "delete", "merge")


class PostgresqlEngine:
    """One PostgreSQL database with one account.

    Args:
        settings: where it is.
        name: the source's name, in `application_name`.
    """

    dialect = "postgres"

    def __init__(self, settings: PostgresqlSettings, name: str = "") -> None:
        self._settings = settings
        limit = settings.statement_timeout + _FENCE
        self._session = {
            "application_name": f"mcp-database-gateway/{name}"[:63],
            "statement_timeout": str(round(limit * 1000)),
            "idle_in_transaction_session_timeout": str(round((limit + 10) * 1000)),
            "jit": "off",  # a cancel that arrives while PostgreSQL compiles is lost, and the query runs on
            "TimeZone": "UTC",
            "DateStyle": "ISO, YMD",
        }

    def placeholder(self, position: int, name: str) -> str:
        """PostgreSQL's numbered placeholder."""
        return f"${position}"

    async def connect(self) -> PostgresqlConnection:
        """Open a connection: TLS, login, session settings, codecs.

        Raises the driver's own exceptions, or TlsUnusable.
        """
        settings = self._settings
        raw = await asyncpg.connect(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password.get_secret_value() if settings.password else "",
            database=settings.database,
            ssl=tls.context_of(settings.tls, settings.host) or False,
            timeout=settings.connect_timeout,
            command_timeout=settings.statement_timeout + 2 * _FENCE,
            server_settings=self._session,
            statement_cache_size=0,  # we keep our own statements, by the tool's name
        )
        try:
            for name, form, encode, decode in types.CODECS:
                await raw.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format=form)
        except BaseException:
            raw.terminate()
            raise
        return PostgresqlConnection(raw)

    def translate(self, error: BaseException) -> ToolError:
        """Name an exception by its SQLSTATE, or by its class where the server said nothing."""
        if isinstance(error, tls.TlsUnusable):
            return failure(Code.SOURCE_UNAVAILABLE, error.message)
        return errors.translate(error)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A tool's statement, prepared on one connection."""

    text: str
    raw: Any
    columns: tuple[Column, ...]
    converters: tuple[tuple[int, Callable[[Any], Any]], ...]
    binders: tuple[binding.Binder, ...]

    def rows(self, records: Sequence[Any]) -> list[Sequence[Any]]:
        """The records as plain values."""
        rows: list[Sequence[Any]] = [list(record) for record in records]
        for row in rows:
            for index, convert in self.converters:
                row[index] = convert(row[index])  # type: ignore[index]
        return rows


class PostgresqlConnection:
    """One connection. A read leaves its transaction open; `reset` ends it, off the caller's path."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._prepared: dict[str, _Prepared] = {}
        self._numbers = itertools.count(1)
        self._traces = Traces()
        self._last = ""
        self._is_clean = False
        self._identity: Mapping[str, str] = {}
        self._identify: Any = None
        self.needs_reset = False
        self.is_committing = False

    @property
    def is_closed(self) -> bool:
        """Whether the socket is gone."""
        return bool(self._raw.is_closed())

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Prepare the statement anew; its columns.

        Raises:
            ToolError: STATEMENT_INVALID when a parameter's JSON type cannot be bound.
        """
        self._prepared.pop(statement.name, None)
        columns = (await self._prepare(statement)).columns
        # asyncpg prepares without a Sync, and until the next one the server holds the tables' locks.
        await self.ping()
        return columns

    def identify(self, values: Mapping[str, str]) -> None:
        """Settings for the next run, local to its transaction."""
        self._identity = values

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        """Run in a transaction of its own; once more when the schema changed under a prepared statement."""
        try:
            return await self._run(statement, values, max_rows, report)
        except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
            await self._raw.execute("rollback")  # the server refused the old plan before it ran any of it
            self._prepared.clear()
            self._traces.forget()
            await self._raw.reload_schema_state()
            return await self._run(statement, values, max_rows, report)

    async def ping(self) -> None:
        """A round trip."""
        await self._raw.execute("select 1")

    async def reset(self) -> None:
        """End the transaction; undo settings, locks, cursors, channels, temporary objects.

        After a read that leaves nothing, ending the transaction is all.
        """
        is_clean, self._is_clean, self._identity = self._is_clean, False, {}
        if self._raw.is_in_transaction():
            await self._raw.execute("rollback")
        if not is_clean:
            await self._wipe()
        self.needs_reset = False
        self.is_committing = False

    async def _wipe(self) -> None:
        await self._raw.execute(_RESET)
        if self._raw.is_in_transaction():  # a BEGIN that was cancelled on its way had succeeded after all
            await self._raw.execute("rollback")
            await self._raw.execute(_RESET)
        if self._last:
            await self._traces.ask(self._raw, self._last)

    async def audit(self) -> Audit:
        """What the account may do here."""
        return await postgresql_audit.audit(self._raw)

    async def close(self) -> None:
        """Say goodbye and close the socket."""
        await self._raw.close()

    def abort(self) -> None:
        """Close the socket."""
        if not self._raw.is_closed():
            self._raw.terminate()

    async def _prepare(self, statement: Statement) -> _Prepared:
        known = self._prepared.get(statement.name)
        if known is not None and known.text == statement.text:
            return known
        try:
            raw = await self._raw.prepare(statement.text, name=f"gateway_{next(self._numbers)}")
        except asyncpg.InternalClientError as error:
            await self.ping()  # a connection that is being ended raises the same, and fails here
            raise failure(
                Code.STATEMENT_INVALID,
                f"the driver cannot tell a column's or parameter's type; cast it to text: {error}",
            ) from error
        attributes = raw.get_attributes()
        found = ((index, types.converter_of(attribute)) for index, attribute in enumerate(attributes))
        prepared = _Prepared(
            statement.text,
            raw,
            tuple(map(types.column_of, attributes)),
            tuple((index, convert) for index, convert in found if convert is not None),
            binding.binders_of(statement, raw.get_parameters()),
        )
        self._prepared[statement.name] = prepared
        return prepared

    async def _run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        prepared = await self._prepare(statement)
        bound = binding.bind(statement, prepared.binders, values)
        self.needs_reset, self._is_clean, self._last = True, False, ""
        await self._raw.execute("begin read write" if statement.writes else "begin read only")
        if self._identity:
            await self._tell()
        try:
            if statement.writes:
                return await self._write(prepared, bound, max_rows, report)
            records, _ = await self._fetch(prepared, bound, max_rows, report, is_whole=False)
        except asyncpg.NoActiveSQLTransactionError as error:
            raise failure(Code.STATEMENT_INVALID, "the statement ends its own transaction") from error
        self._is_clean, self._last = self._traces.is_traceless(prepared.text), prepared.text
        return Table(prepared.columns, prepared.rows(records[:max_rows]), len(records) > max_rows)

    async def _tell(self) -> None:
        """Set every setting in one round trip, until the transaction ends."""
        if self._identify is None:
            self._identify = await self._raw.prepare(_IDENTIFY, name=f"gateway_{next(self._numbers)}")
        await self._identify.fetch(list(self._identity), list(self._identity.values()))

    async def _write(self, prepared: _Prepared, bound: Sequence[Any], max_rows: int, report: Report) -> Table:
        if prepared.columns:
            records, count = await self._fetch(prepared, bound, max_rows, report, is_whole=True)
            is_change = prepared.text.lstrip().lower().startswith(_CHANGING)
            affected = count if is_change else None
        else:
            await prepared.raw.fetch(*bound)
            records, affected = [], _affected(prepared.raw.get_statusmsg())
        rows = prepared.rows(records[:max_rows])  # before the commit: a value that cannot be shown undoes the write
        if not self._raw.is_in_transaction():
            raise failure(Code.STATEMENT_INVALID, "the statement ends its own transaction")
        await self._commit()
        return Table(prepared.columns, rows, len(records) > max_rows, affected)

    async def _commit(self) -> None:
        self.is_committing = True
        try:
            await self._raw.execute("commit")
        except asyncpg.PostgresError as error:
            is_lost = self._raw.is_closed() or errors.code_of(error.sqlstate or "") is Code.CONNECTION_LOST
            self.is_committing = is_lost  # else the server has answered: undone
            raise
        self.is_committing = False

    async def _fetch(
        self, prepared: _Prepared, bound: Sequence[Any], max_rows: int, report: Report, *, is_whole: bool
    ) -> tuple[list[Any], int]:
        """At most `max_rows + 1` records, in batches; their number, or that of all when the whole is asked for."""
        records: list[Any] = []
        count = 0
        batch = min(_BATCH, max_rows + 1)
        async for record in prepared.raw.cursor(*bound, prefetch=batch):
            count += 1
            if count <= max_rows + 1:
                records.append(record)
            if count > max_rows and not is_whole:
                break
            if count % batch == 0:
                report(f"{min(count, max_rows)} rows read")
        return records, count


def _affected(status: str) -> int | None:
    """The number in a command tag such as `INSERT 0 5` or `UPDATE 5`."""
    verb, _, rest = status.partition(" ")
    number = rest.rpartition(" ")[2]
    return int(number) if verb.lower() in _CHANGING and number.isdigit() else None
