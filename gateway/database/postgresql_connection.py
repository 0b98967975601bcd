"""One connection to PostgreSQL: a transaction for each call, exact types, a session left as it was found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import asyncpg

from gateway.context import Report
from gateway.database import postgresql_audit
from gateway.database import postgresql_binding as binding
from gateway.database import postgresql_errors as errors
from gateway.database import postgresql_types as types
from gateway.database.engine import Audit, Column, Statement, Table
from gateway.database.failures import failure
from gateway.database.postgresql_traces import Traces
from gateway.errors import Code

_BATCH: Final = 500
READ_ONLY: Final = "set session characteristics as transaction read only"
"""A read that needs no BEGIN is read-only all the same; a write begins with READ WRITE."""
_RESET: Final = (
    "set session authorization default; reset all; close all; unlisten *;"
    f" select pg_advisory_unlock_all(); discard temp; discard sequences; {READ_ONLY}"
)
"""What DISCARD ALL does, except that prepared statements stay."""
BEGIN: Final = ("begin read only", "begin read write")
"""How a transaction begins that does not write, and one that does."""
IDENTIFY: Final = "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as told(name, value)"
_CHANGING: Final = ("insert", "update", "delete", "merge")


@dataclass(frozen=True, slots=True)
class Prepared:
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
        self._prepared: dict[str, Prepared] = {}
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

    async def _prepare(self, statement: Statement) -> Prepared:
        known = self._prepared.get(statement.name)
        if known is not None and known.text == statement.text:
            return known
        # asyncpg prepares without a Sync: if this is cut short, a reset that only ends transactions leaves one open.
        self._is_clean = False
        try:
            raw = await self._raw.prepare(statement.text, name=self._name())
        except asyncpg.InternalClientError as error:
            await self.ping()  # a connection that is being ended raises the same, and fails here
            raise failure(
                Code.STATEMENT_INVALID,
                f"the driver cannot tell a column's or parameter's type; cast it to text: {error}",
            ) from error
        attributes = raw.get_attributes()
        found = ((index, types.converter_of(attribute)) for index, attribute in enumerate(attributes))
        prepared = Prepared(
            statement.text,
            raw,
            _one_of_each(tuple(map(types.column_of, attributes))),
            tuple((index, convert) for index, convert in found if convert is not None),
            binding.binders_of(statement, raw.get_parameters()),
        )
        self._prepared[statement.name] = prepared
        return prepared

    async def _begin(self, statement: Statement, values: Sequence[Any]) -> tuple[Prepared, Sequence[Any]]:
        """Prepare, bind and begin the transaction, in the order that costs least when it fails."""
        is_new = statement.name not in self._prepared
        prepared = await self._prepare(statement)
        bound = binding.bind(statement, prepared.binders, values)
        self.needs_reset, self._is_clean, self._last = True, False, ""
        if is_new and statement.writes:
            await self.ping()  # asyncpg prepares without a Sync: what is open until then is read-only and stays so
        await self._raw.execute(BEGIN[statement.writes])
        if self._identity:
            await self._tell()
        return prepared, bound

    def _name(self) -> str:
        """A name for the next prepared statement."""
        return f"gateway_{next(self._numbers)}"

    async def _run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        known = self._prepared.get(statement.name)
        if known is not None and self._is_plain(known, statement, max_rows):
            return await self._read_at_once(known, statement, values, max_rows)
        prepared, bound = await self._begin(statement, values)
        try:
            if statement.writes:
                return await self._write(prepared, bound, max_rows, report)
            records, _ = await self._fetch(prepared, bound, max_rows, report, is_whole=False)
        except asyncpg.NoActiveSQLTransactionError as error:
            raise failure(Code.STATEMENT_INVALID, "the statement ends its own transaction") from error
        self._is_clean, self._last = self._traces.is_traceless(prepared.text), prepared.text
        return Table(prepared.columns, prepared.rows(records[:max_rows]), len(records) > max_rows)

    def _is_plain(self, known: Prepared, statement: Statement, max_rows: int) -> bool:
        """Whether a read needs no transaction around it: it leaves nothing, and tells the database nothing."""
        if statement.writes or self._identity or max_rows >= _BATCH:
            return False
        return known.text == statement.text and self._traces.is_traceless(known.text)

    async def _read_at_once(
        self, prepared: Prepared, statement: Statement, values: Sequence[Any], max_rows: int
    ) -> Table:
        """Read in one round trip: the transaction is the server's own, read-only by default, and ends with the Sync.

        The driver offers the protocol's row limit (PostgreSQL documentation, "Extended Query") for one row only.
        """
        bound = binding.bind(statement, prepared.binders, values)
        self.needs_reset, self._is_clean, self._last = True, False, ""
        execute = self._raw._protocol.bind_execute  # noqa: SLF001
        records, _, _ = await execute(prepared.raw._state, bound, "", max_rows + 1, True, None)  # noqa: SLF001
        self.needs_reset, self._is_clean = False, True
        return Table(prepared.columns, prepared.rows(records[:max_rows]), len(records) > max_rows)

    async def _tell(self) -> None:
        """Set every setting in one round trip, until the transaction ends."""
        if self._identify is None:
            self._identify = await self._raw.prepare(IDENTIFY, name=self._name())
        await self._identify.fetch(list(self._identity), list(self._identity.values()))

    async def _write(self, prepared: Prepared, bound: Sequence[Any], max_rows: int, report: Report) -> Table:
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
        self, prepared: Prepared, bound: Sequence[Any], max_rows: int, report: Report, *, is_whole: bool
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


@lru_cache(maxsize=4096)
def _one_of_each(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The same columns as every other connection has, so that comparing them with those takes no time."""
    return columns
