"""What a PL/SQL block gives out: typed bind variables, and the rows of REF CURSORs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import oracledb

from gateway.context import Report
from gateway.database import oracle_types as types
from gateway.database.engine import Column, Kind, Output, Table
from gateway.database.failures import failure
from gateway.database.oracle_rows import Reader
from gateway.errors import Code

_LONGEST: Final = 32767
"""Bytes of a VARCHAR2 or RAW in PL/SQL (PL/SQL Language Reference, "PL/SQL Data Types")."""
_ROWS: Final = "rows"
_FORMS: Final = {
    "string": (oracledb.DB_TYPE_VARCHAR, Kind.TEXT),
    "integer": (Decimal, Kind.INTEGER),
    "number": (Decimal, Kind.DECIMAL),
    "boolean": (oracledb.DB_TYPE_BOOLEAN, Kind.BOOLEAN),
    "datetime": (oracledb.DB_TYPE_TIMESTAMP, Kind.DATETIME),
    "bytes": (oracledb.DB_TYPE_RAW, Kind.BYTES),
    _ROWS: (oracledb.DB_TYPE_CURSOR, Kind.ARRAY),
}


def name_of(position: int) -> str:
    """The name of an output's bind variable."""
    return f"O{position}"


def columns_of(outputs: Sequence[Output]) -> tuple[Column, ...]:
    """The outputs as the columns of one row."""
    return tuple(Column(each.name, _FORMS[each.type][1], each.type) for each in outputs)


def variables(cursor: Any, outputs: Sequence[Output], arraysize: int) -> dict[str, Any]:
    """A bind variable for each output, by its name."""
    return {name_of(index): _variable(cursor, each, arraysize) for index, each in enumerate(outputs, 1)}


def _variable(cursor: Any, output: Output, arraysize: int) -> Any:
    kind, _ = _FORMS[output.type]
    variable = cursor.var(kind, size=_LONGEST if output.type in ("string", "bytes") else 0)
    if output.type == _ROWS:
        inner = cursor.connection.cursor()
        inner.arraysize = inner.prefetchrows = arraysize
        inner.outputtypehandler = types.fetch_as
        variable.setvalue(0, inner)
    return variable


async def table_of(
    outputs: Sequence[Output], given: Sequence[Any], max_rows: int, max_lob_bytes: int, report: Report
) -> Table:
    """One row with what was given out; at most `max_rows` rows of each REF CURSOR, as a list of objects.

    Raises:
        ToolError: UNREPRESENTABLE, naming the output or column.
    """
    values: list[Any] = []
    is_truncated = False
    for output, variable in zip(outputs, given, strict=True):
        value = variable.getvalue()
        if output.type == _ROWS:
            value, is_cut = await _rows(value, max_rows, max_lob_bytes, report)
            is_truncated = is_truncated or is_cut
        elif value is not None:
            value = _plain(output, value)
        values.append(value)
    return Table(columns_of(outputs), [values], is_truncated)


async def _rows(cursor: Any, max_rows: int, max_lob_bytes: int, report: Report) -> tuple[list[dict[str, Any]], bool]:
    reader = Reader(cursor, max_lob_bytes)
    names = [column.name for column in reader.columns]
    if len(set(names)) < len(names):
        raise failure(Code.STATEMENT_INVALID, "two columns of a REF CURSOR have one name; give one an alias")
    rows, count = await reader.rows(max_rows, report, is_whole=False)
    return [dict(zip(names, row, strict=True)) for row in rows], count > max_rows


def _plain(output: Output, value: Any) -> Any:
    if output.type == "integer":
        if value != value.to_integral_value():
            hint = f"The output is {output.name}."
            raise failure(Code.UNREPRESENTABLE, f"output {output.name} is no whole number", hint=hint)
        return int(value)
    return types.moment(value) if output.type == "datetime" else value
