"""The engine port: all that the pool and the tools know of a database.

An engine opens, pings, runs, cancels, resets and closes one connection, and
names its errors. It does not pool, retry, time or log. A new engine is one file
that satisfies these protocols and one line in the registry (`sources.ENGINES`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gateway.context import Report
from gateway.errors import ToolError


class Kind(StrEnum):
    """What a column's values are in JSON, whatever the engine calls its type.

    Values cross the port as plain Python: None, bool, int, float, Decimal, str,
    bytes, list, dict, and `Json`. Temporal values, UUIDs, intervals and the like
    are already text, made by the engine that knows them exactly.
    """

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"
    ARRAY = "array"
    OBJECT = "object"
    ANY = "any"
    """The engine does not know before it runs (SQLite expressions)."""


class Json(str):
    """A JSON document as the database wrote it: goes out as JSON, number for number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result.

    Attributes:
        name: as the statement names it.
        kind: what its values are in JSON.
        type_name: the engine's own name for the type, "" where it has none.
        items: the kind of an array's elements; None unless `kind` is ARRAY.
    """

    name: str
    kind: Kind
    type_name: str = ""
    items: Kind | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a procedure gives out.

    Attributes:
        name: as the tool names it.
        type: "string", "integer", "number", "boolean", "datetime", "bytes", or "rows" for a cursor.
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A tool's SQL, ready for one engine.

    Attributes:
        name: the tool's name, for logs, spans and prepared-statement names.
        text: the SQL with the engine's own placeholders.
        parameters: for each bind position, the parameter's name (repeats allowed).
        types: for each bind position, the parameter's JSON Schema type
            ("string", "integer", "number", "boolean", "array", "object").
        writes: whether it runs in a read-write transaction that commits.
        outputs: what it gives out, each through a bind of its own; the result is then one row of them.
    """

    name: str
    text: str
    parameters: tuple[str, ...]
    types: tuple[str, ...]
    writes: bool = False
    outputs: tuple[Output, ...] = ()


class Table(NamedTuple):
    """What a statement gave back.

    Attributes:
        columns: empty for a statement without a result set.
        rows: at most `max_rows` rows, one value for each column.
        is_truncated: whether there was at least one row more.
        affected: rows changed by a write; None for a read.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]
    is_truncated: bool = False
    affected: int | None = None


class Connection(Protocol):
    """One open connection. Used by one caller at a time; cancellation may hit any await.

    After a cancelled or failed `run` the pool calls `reset` (bounded) before it
    lends the connection again, and `abort` when that fails.
    """

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be unusable; no I/O."""

    @property
    def needs_reset(self) -> bool:
        """Whether a run that succeeded may have left something in the session; no I/O."""

    @property
    def is_committing(self) -> bool:
        """Whether a commit was sent and not yet answered: the outcome of a write is open; no I/O."""

    async def describe(self, statement: Statement) -> tuple[Column, ...]:
        """Prepare the statement on the server and return its columns.

        Raises:
            ToolError: STATEMENT_INVALID with what is wrong and where, when the
                database does not accept it or a parameter's type cannot be bound.
        """

    async def run(self, statement: Statement, values: Sequence[Any], max_rows: int, report: Report) -> Table:
        """Run with bind variables and fetch at most `max_rows` rows (one more to know).

        A cancelled `run` has asked the server to stop before it raises on.
        Raises the driver's own exceptions; the caller translates them.
        """

    async def ping(self) -> None:
        """The lightest round trip that proves the session alive."""

    async def reset(self) -> None:
        """Bring the session back to the state of a new one: no transaction, settings, locks, temp objects."""

    async def close(self) -> None:
        """Say goodbye politely; the pool bounds the wait and aborts after it."""

    def abort(self) -> None:
        """Drop the connection at once, without waiting for the peer."""


@runtime_checkable
class Identifiable(Protocol):
    """A connection that can tell the database who calls."""

    def identify(self, values: Mapping[str, str]) -> None:
        """Put these settings into the session for the next run and only for it; no I/O.

        They are visible to that run's statement, gone when it ends, and replaced by the next call of this.

        Args:
            values: the settings' names, which are plain identifiers joined by dots, and their values.
        """


@dataclass(frozen=True, slots=True)
class Audit:
    """What an account may do on its server; the texts are for the operator, "" where it may not.

    Attributes:
        can_write: what lets it change data.
        bypasses_row_security: what lifts row-level security for it.
        owns_tables: which tables it owns.
        connection_limit: connections that the server admits for it; None where it has no such limit.
        notes: what else deserves a warning, such as a certificate that expires soon.
    """

    can_write: str = ""
    bypasses_row_security: str = ""
    owns_tables: str = ""
    connection_limit: int | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class Auditable(Protocol):
    """A connection that can tell what its account may do."""

    async def audit(self) -> Audit:
        """Ask the server; changes nothing there. Raises the driver's own exceptions."""


class Engine(Protocol):
    """How to reach one database with one account."""

    @property
    def dialect(self) -> str:
        """The SQL dialect, as `gateway.database.lexer` has it: "postgres", "sqlite", "mysql", "oracle"."""

    def placeholder(self, position: int, name: str) -> str:
        """The bind placeholder for a 1-based position ("$1", "?1", ":name")."""

    async def connect(self) -> Connection:
        """Open a connection, TLS and login included; the pool bounds the time.

        Raises the driver's own exceptions; a cancelled connect leaves nothing open.
        """

    def translate(self, error: BaseException) -> ToolError:
        """Name a driver's exception by its code (SQLSTATE, errno), never by its text."""


@runtime_checkable
class CallsProcedures(Protocol):
    """An engine that can run blocks which give values out."""

    def output(self, position: int) -> str:
        """The placeholder of an output, by its 1-based position."""
