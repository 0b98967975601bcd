"""SQLite by the standard library: off the event loop, read-only by URI, unable to leave its file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote

from gateway.config.sources import SqliteSettings
from gateway.context import Report
from gateway.database import sqlite_access as access
from gateway.database import sqlite_errors as errors
from gateway.database import sqlite_types
from gateway.database.engine import Column, Statement, Table
from gateway.database.failures import failure
from gateway.database.worker import Job, Worker
from gateway.errors import Code, ToolError

T = TypeVar("T")

_BATCH: Final = 500
_INTERRUPT_EVERY: Final = 0.01


class SqliteEngine:
    """One SQLite file.

    Args:
        settings: where the file is and whether it may be written.
        name: the source's name.
    """

    dialect = "sqlite"

    def __init__(self, settings: SqliteSettings, name: str = "") -> None:
        self._settings = settings
        self._name = name

    def placeholder(self, position: int, name: str) -> str:
        """SQLite's numbered placeholder."""
        return f"?{position}"

    async def connect(self) -> SqliteConnection:
        """Open the file; never creates it. The first read proves that it is a database."""
        connection = SqliteConnection(self._settings, self._name)
        try:
            await connection.open()
        except BaseException:
            connection.abort()
            raise
        return connection

    def translate(self, error: BaseException) -> ToolError:
        """Name an exception of the sqlite3 module by its result code."""
        return errors.translate(error)


class SqliteConnection:
    """One connection, all of whose work is done by one thread."""

    needs_reset = False  # every run ends its transaction, and the authorizer lets no session state be made

    def __init__(self, settings: SqliteSettings, name: str) -> None:
        self._settings = settings
        self._worker = Worker(f"sqlite-{name}")
        self._raw: sqlite3.Connection | None = None
        self._shapes: dict[str, tuple[int, str, tuple[Column, ...]]] = {}
        self._is_trusted = False
        self._is_query_only = True
        self._is_stopped = False
        self.is_committing = False

    @property
    def is_closed(self) -> bool:
        """Whether it was closed or aborted."""
        return self._is_stopped

    async def open(self) -> None:
        """Open the file and set the session up."""
        await self._do(self._open)

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Prepare the statement; its columns, as far as SQLite declares them."""
        return await self._do(lambda _: self._shape(statement))

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        """Run in the thread; cancelled, the statement is interrupted."""
        bound = sqlite_types.bind(statement, values)
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            loop.call_soon_threadsafe(report, line)

        return await self._do(lambda job: self._run(job, statement, bound, max_rows, tell))

    async def ping(self) -> None:
        """Read the file's header."""
        await self._do(lambda _: self._pragma("schema_version"))

    async def reset(self) -> None:
        """Wait until the thread has stopped what was cancelled, and undo it."""
        while not self._worker.is_idle:
            self._interrupt()  # again and again: one that comes before the statement starts is lost
            await asyncio.sleep(_INTERRUPT_EVERY)
        await self._do(lambda _: self._rollback())

    async def close(self) -> None:
        """Close the file and end the thread."""
        self.abort()
        await self._worker.join()

    def abort(self) -> None:
        """Stop what runs; the thread closes the file and ends by itself."""
        if not self._is_stopped:
            self._is_stopped = True
            self._worker.stop(self._shut)
            self._interrupt()

    async def _do(self, work: Callable[[Job], T]) -> T:
        if self._is_stopped:
            raise failure(Code.CONNECTION_LOST, "the connection was closed")
        try:
            return await self._worker.do(work)
        except asyncio.CancelledError:
            self._interrupt()
            raise

    def _interrupt(self) -> None:
        if self._raw is not None:
            try:
                self._raw.interrupt()
            except sqlite3.ProgrammingError:
                return  # closed meanwhile: nothing runs

    # Everything below runs in the thread.

    @property
    def _db(self) -> sqlite3.Connection:
        if self._raw is None:
            raise failure(Code.CONNECTION_LOST, "the connection was closed")
        return self._raw

    def _open(self, _: Job) -> None:
        settings = self._settings
        is_writable = settings.access == "read-write"
        uri = f"file:{quote(str(settings.path.absolute()))}?mode={'rw' if is_writable else 'ro'}"
        raw = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=settings.connect_timeout
        )
        self._raw = raw
        raw.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        with self._trusted():
            self._pragma("schema_version")
            if is_writable:
                self._pragma("journal_mode = wal")
            self._pragma("foreign_keys = on")
            self._pragma("trusted_schema = off")
            self._pragma("query_only = on")
        raw.set_authorizer(self._authorize)

    def _shut(self) -> None:
        if self._raw is not None:
            self._raw.close()

    def _pragma(self, text: str) -> Any:
        row = self._db.execute(f"pragma {text}").fetchone()
        return row[0] if row else None

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        """Our own statements may do what a tool's may not."""
        self._is_trusted = True
        try:
            yield
        finally:
            self._is_trusted = False

    def _authorize(self, action: int, first: str | None, second: str | None, _: str | None, __: str | None) -> int:
        """Fixed SQL stays inside its file, its transaction and its settings."""
        if self._is_trusted:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_OK if access.is_allowed(action, first, second) else sqlite3.SQLITE_DENY

    def _set_query_only(self, is_query_only: bool) -> None:
        if is_query_only != self._is_query_only:
            with self._trusted():
                self._pragma(f"query_only = {'on' if is_query_only else 'off'}")
            self._is_query_only = is_query_only

    def _rollback(self) -> None:
        if self._db.in_transaction:
            with self._trusted():
                self._db.execute("rollback")

    def _shape(self, statement: Statement) -> tuple[Column, ...]:
        """The statement's columns, made anew when the schema changed."""
        version = self._pragma("schema_version")
        known = self._shapes.get(statement.name)
        if known is not None and known[:2] == (version, statement.text):
            return known[2]
        self._db.execute(*sqlite_types.explain(statement))  # fails here, and has no effect
        self._set_query_only(False)  # for the temporary view that tells the declared types
        with self._trusted():
            columns = sqlite_types.columns_of(self._db, statement)
        self._shapes[statement.name] = (version, statement.text, columns)
        return columns

    def _run(
        self, job: Job, statement: Statement, values: Sequence[Any], max_rows: int, tell: Callable[[str], None]
    ) -> Table:
        columns = self._shape(statement)
        self._set_query_only(not statement.writes)
        try:
            if statement.writes:
                return self._write(job, statement, values, columns, max_rows, tell)
            return self._fetch(job, statement, values, columns, max_rows, tell)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # the statement was just prepared: a value it is
                raise failure(Code.INVALID_VALUE, str(error), is_sent=True) from error
            raise

    def _write(
        self,
        job: Job,
        statement: Statement,
        values: Sequence[Any],
        columns: tuple[Column, ...],
        max_rows: int,
        tell: Callable[[str], None],
    ) -> Table:
        with self._trusted():
            self._db.execute("begin immediate")
        try:
            table = self._fetch(job, statement, values, columns, max_rows, tell)
            if not job.is_cancelled:
                self.is_committing = True
                with self._trusted():
                    self._db.execute("commit")
        finally:
            self.is_committing = False
            self._rollback()
        return table

    def _fetch(
        self,
        job: Job,
        statement: Statement,
        values: Sequence[Any],
        columns: tuple[Column, ...],
        max_rows: int,
        tell: Callable[[str], None],
    ) -> Table:
        """At most `max_rows` rows, one more to know; a write is run to its end."""
        cursor = self._db.execute(statement.text, values)
        try:
            if cursor.description is None:
                return Table((), (), affected=max(cursor.rowcount, 0) if statement.writes else None)
            columns = sqlite_types.named(cursor.description, columns)
            rows: list[Sequence[Any]] = []
            while not job.is_cancelled and len(rows) <= max_rows:
                batch = cursor.fetchmany(min(_BATCH, max_rows + 1 - len(rows)))
                if not batch:
                    break
                rows += batch
                if len(rows) <= max_rows:
                    tell(f"{len(rows)} rows read")
            affected = None
            if statement.writes:
                while not job.is_cancelled and cursor.fetchmany(_BATCH):
                    pass
                affected = max(cursor.rowcount, 0)
            is_truncated = len(rows) > max_rows
            return Table(columns, sqlite_types.convert(columns, rows[:max_rows]), is_truncated, affected)
        finally:
            cursor.close()
