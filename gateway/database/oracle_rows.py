"""Reads a cursor: at most so many rows, at most so many bytes of LOBs, each value as plain exact Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import oracledb

from gateway.context import Report
from gateway.database import oracle_types as types
from gateway.database.engine import Column
from gateway.database.failures import failure
from gateway.database.oracle_exact import Query
from gateway.errors import Code, ToolError


class Reader:
    """The rows of one executed cursor.

    Args:
        cursor: the driver's.
        max_lob_bytes: bytes that its LOBs may have together.
        query: what it executed, where columns come as text.

    Raises:
        ToolError: STATEMENT_INVALID, a column would not arrive as it is.
    """

    def __init__(self, cursor: Any, max_lob_bytes: int, query: Query | None = None) -> None:
        self._cursor = cursor
        self._left = max_lob_bytes
        self._limit = max_lob_bytes
        known = query.columns if query is not None else None
        self.columns: tuple[Column, ...] = types.columns_of(cursor.description) if known is None else known
        self._converters = types.converters_of(cursor.description) + (query.readers if query is not None else ())
        self._lobs = types.lobs_of(cursor.description)

    async def rows(self, max_rows: int, report: Report, *, is_whole: bool) -> tuple[list[Sequence[Any]], int]:
        """At most `max_rows` rows, and their number: one more than the limit, or that of all when asked for.

        Raises:
            ToolError: UNREPRESENTABLE, naming the column.
        """
        rows: list[Sequence[Any]] = []
        count = 0
        if not self.columns:
            return rows, count
        while batch := await self._cursor.fetchmany():
            for row in batch[: max(0, max_rows - count)]:
                rows.append(await self._plain(list(row)))  # noqa: PERF401 - LOBs are awaited
            count += len(batch)
            if count > max_rows and not is_whole:
                break
            if len(batch) < self._cursor.arraysize:
                break
            report(f"{min(count, max_rows)} rows read")
        return rows, count

    async def _plain(self, row: list[Any]) -> list[Any]:
        for index in self._lobs:
            if row[index] is not None:
                row[index] = await self._lob(row[index], self.columns[index].name)
        for index, convert in self._converters:
            if row[index] is not None:
                try:
                    row[index] = convert(row[index])
                except (ValueError, TypeError, OverflowError) as error:
                    name = self.columns[index].name
                    raise failure(
                        Code.UNREPRESENTABLE, f"column {name}: {error}", hint=f"The column is {name}."
                    ) from error
        return row

    async def _lob(self, lob: Any, name: str) -> Any:
        """A LOB's value, if all of them together stay within the limit; its size is known before it is read."""
        is_text = lob.type is not oracledb.DB_TYPE_BLOB
        size = await lob.size()
        if size > self._left:
            raise self._too_large(name)
        value: Any = await lob.read() if size else ("" if is_text else b"")
        self._left -= len(value.encode()) if is_text else len(value)
        if self._left < 0:
            raise self._too_large(name)
        return value

    def _too_large(self, name: str) -> ToolError:
        return failure(
            Code.UNREPRESENTABLE,
            f"column {name}: the LOBs of this result have more than {self._limit} bytes (max_lob_bytes);"
            " select less of them: dbms_lob.substr, or fewer rows",
            hint=f"The column is {name}; ask for fewer rows.",
        )
