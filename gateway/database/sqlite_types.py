"""What SQLite's columns and values are: declared types on a typeless engine.

SQLite stores any value in any column; a declared type is an affinity
(https://www.sqlite.org/datatype3.html). A column with an exact affinity is
published with its kind, and a value that breaks it is an error for that
column. Expressions and NUMERIC affinities are `ANY`: the value decides.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import orjson

from gateway.database import lexer
from gateway.database.engine import Column, Json, Kind, Statement
from gateway.database.exact_json import dumps
from gateway.database.failures import failure
from gateway.errors import Code

_INT64: Final = range(-(1 << 63), 1 << 63)
_VIEW: Final = "temp.mcp_database_gateway_shape"
_REPEATED: Final = re.compile(r"(.+):[0-9]+")


def bind(statement: Statement, values: Sequence[Any]) -> list[Any]:
    """The values as SQLite takes them.

    Raises:
        ToolError: INVALID_VALUE naming the parameter that does not fit.
    """
    return [_bind_one(name, value) for name, value in zip(statement.parameters, values, strict=True)]


def _bind_one(name: str, value: Any) -> Any:
    if isinstance(value, Decimal):  # compared before int(): 1E+999999999 is a short text
        is_whole = value.is_finite() and abs(value) < 1 << 64 and value == value.to_integral_value()
        value = int(value) if is_whole else float(value)
    if isinstance(value, int) and value not in _INT64:
        raise failure(
            Code.INVALID_VALUE,
            f"parameter {name}: beyond 64 bits",
            hint=f"{name} must be between -9223372036854775808 and 9223372036854775807.",
        )
    if isinstance(value, dict | list):
        return dumps(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise failure(
                Code.INVALID_VALUE, f"parameter {name}: lone surrogate", hint=f"{name} is not valid Unicode."
            ) from error
    return value


def explain(statement: Statement) -> tuple[str, list[None]]:
    """A statement that is prepared like this one and has no effect, with its values."""
    nulls: list[None] = [None] * len(statement.parameters)
    tokens = lexer.tokenize(statement.text, "sqlite")
    is_explain = bool(tokens) and tokens[0].text.lower() == "explain"
    return (statement.text if is_explain else f"explain {statement.text}"), nulls


def columns_of(db: sqlite3.Connection, statement: Statement) -> tuple[Column, ...]:
    """The columns with their declared types, by way of a temporary view; empty when it cannot be one."""
    try:
        db.execute(f"create view {_VIEW} as {_without_placeholders(statement.text)}")
    except sqlite3.Error:
        return ()
    try:
        found = db.execute(f"pragma {_VIEW.replace('.', '.table_info(')})").fetchall()
    except sqlite3.Error:
        return ()
    finally:
        db.execute(f"drop view {_VIEW}")
    names = {name for _, name, *_ in found}
    return tuple(
        Column(_unrepeated(name, names), kind_of(declared), declared.upper()) for _, name, declared, *_ in found
    )


def _unrepeated(name: str, names: set[str]) -> str:
    """A view calls a second `id` `id:1`; the statement itself does not."""
    match = _REPEATED.fullmatch(name)
    return match[1] if match and match[1] in names else name


def _without_placeholders(text: str) -> str:
    """The statement with NULL for each `?N`: a view takes no parameters."""
    parts: list[str] = []
    position = 0
    for token in lexer.tokenize(text, "sqlite"):
        if token.kind is lexer.Kind.NATIVE:
            parts.append(f"{text[position : token.start]}null")
            position = token.end + 1
    return "".join(parts) + text[position:].rstrip().rstrip(";")


def kind_of(declared: str) -> Kind:
    """The kind of a declared type, by the affinity rules (datatype3.html section 3.1)."""
    name = declared.upper()
    if name in {"BOOLEAN", "BOOL"}:
        return Kind.BOOLEAN
    if name == "JSON":
        return Kind.JSON
    if "INT" in name:
        return Kind.INTEGER
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return Kind.TEXT
    if "BLOB" not in name and any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return Kind.FLOAT
    return Kind.ANY


def named(description: Sequence[Sequence[Any]], columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The described columns, or untyped ones where the result has others."""
    names = [str(entry[0]) for entry in description]
    if names == [column.name for column in columns]:
        return columns
    return tuple(Column(name, Kind.ANY) for name in names)


def convert(columns: Sequence[Column], rows: list[Sequence[Any]]) -> list[Sequence[Any]]:
    """The rows with every value of its column's kind.

    Raises:
        ToolError: UNREPRESENTABLE naming the column whose value breaks its declared type.
    """
    checks = [(index, column, _CHECKS[column.kind]) for index, column in enumerate(columns) if column.kind in _CHECKS]
    if not checks:
        return rows
    converted: list[Sequence[Any]] = []
    for row in rows:
        values = list(row)
        for index, column, check in checks:
            if values[index] is not None:
                try:
                    values[index] = check(values[index])
                except (TypeError, ValueError) as error:
                    raise failure(
                        Code.UNREPRESENTABLE,
                        f"column {column.name} is declared {column.type_name} and holds {type(row[index]).__name__}",
                        hint=f"The column is {column.name}.",
                    ) from error
        converted.append(values)
    return converted


def _only(*types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, types):
            raise TypeError
        return value

    return check


def _boolean(value: Any) -> bool:
    if value not in (0, 1) or isinstance(value, str | bytes):
        raise ValueError
    return bool(value)


def _json(value: Any) -> Any:
    if isinstance(value, int | float):
        return value  # the column's NUMERIC affinity made a number of the document
    orjson.loads(_only(str)(value))
    return Json(value)


_CHECKS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.INTEGER: _only(int),
    Kind.FLOAT: _only(float, int),
    Kind.TEXT: _only(str),
    Kind.BOOLEAN: _boolean,
    Kind.JSON: _json,
}
