"""What the agent gets: rows as exact JSON, their schema, and failures it can act on."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol

import orjson

from gateway.config.units import format_size
from gateway.context import Call
from gateway.database.engine import Column, Json, Kind, Table
from gateway.errors import Code, ToolError
from gateway.tools.pages import encode, narrowing

Numbers = Literal["exact", "string"]
ERROR_KEY: Final = "mcp-database-gateway/error"
"""The key in a result's `_meta` that carries a failure's code."""
MAX_JSON_DEPTH: Final = 200
"""How deep a JSON value may nest; parsers of clients give up not far beyond."""
_SAFE: Final = 2**53 - 1
_STRING_OR_SPACE: Final = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|[ \t\r\n]+')
_STRING_OR_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|([\[{])|([\]}])')
_SPECIAL: Final = ["NaN", "Infinity", "-Infinity"]


class Presentable(Protocol):
    """What `present` asks of a tool."""

    @property
    def numbers(self) -> Numbers:
        """How large integers and decimals go out."""

    @property
    def max_rows(self) -> int:
        """Most rows in a result."""

    @property
    def max_result_bytes(self) -> int:
        """Most bytes of its structured content."""

    @property
    def narrowing(self) -> tuple[str, ...]:
        """Parameters that may narrow the rows."""


_NO_META: Final[Mapping[str, Any]] = MappingProxyType({})


class ToolResult(NamedTuple):
    """The outcome of one call.

    Attributes:
        structured: compact JSON for `structuredContent`; None for a failure.
        text: the first text content: the same JSON, or what failed.
        hints: further text contents for the model.
        is_error: whether the call failed.
        meta: for the result's `_meta`.
        row_count: rows in the result.
        affected: rows changed by a write; None for a read.
        code: the failure's code, "" for a success.
        detail: the failure in the operator's words, for the log only.
    """

    structured: bytes | None
    text: str
    hints: tuple[str, ...] = ()
    is_error: bool = False
    meta: Mapping[str, Any] = _NO_META
    row_count: int = 0
    affected: int | None = None
    code: str = ""
    detail: str = ""


def present(table: Table, tool: Presentable) -> ToolResult:
    """Rows as JSON, value for value exact; those beyond `max_result_bytes` are left out, and the result says so.

    Raises:
        ToolError: UNREPRESENTABLE naming the column whose value JSON cannot carry; RESULT_TOO_LARGE
            where not even the first row fits; STATEMENT_INVALID where two columns have one name.
    """
    names = [column.name for column in table.columns]
    if len(set(names)) < len(names):
        raise doubled_columns(duplicate_columns(table.columns))
    convert = string_numbers if tool.numbers == "string" else exact_numbers
    try:
        page = encode(table, names, convert, tool.max_result_bytes)
    except (TypeError, ValueError, RecursionError) as error:
        raise _unrepresentable(table, convert, error) from error
    if page.is_cut and not page.row_count:
        raise _too_large(table, tool.max_result_bytes)
    if not page.is_cut and not table.is_truncated:
        hints: tuple[str, ...] = ()
    else:
        hints = (narrowing(page.row_count, tool.narrowing, tool.max_result_bytes if page.is_cut else None),)
    return ToolResult(page.encoded, page.encoded.decode(), hints, row_count=page.row_count, affected=table.affected)


def failure(error: ToolError, call: Call) -> ToolResult:
    """A failed call as a result that a model can act on."""
    text = error.message
    retry_after_ms = None if error.retry_after is None else max(0, math.ceil(error.retry_after * 1000))
    if retry_after_ms:
        text += f" Call again in {math.ceil(retry_after_ms / 1000)} s."
    if error.code is Code.INTERNAL:
        text += f" Correlation id: {call.correlation_id}"
    details = {
        "code": error.code.value,
        "retryable": error.is_retryable,
        "retry_after_ms": retry_after_ms,
        "correlation_id": call.correlation_id,
    }
    return ToolResult(None, text, is_error=True, meta={ERROR_KEY: details}, code=error.code.value, detail=error.detail)


def duplicate_columns(columns: Sequence[Column]) -> tuple[str, ...]:
    """Names that more than one column has; a JSON object cannot hold both."""
    names = [column.name for column in columns]
    return tuple(dict.fromkeys(name for name in names if names.count(name) > 1))


def doubled_columns(names: Sequence[str]) -> ToolError:
    """The error for a statement whose columns share names."""
    detail = f"columns of one name: {', '.join(names)}; name each with AS"
    return ToolError(Code.STATEMENT_INVALID, "This tool is misconfigured; tell the operator.", detail=detail)


@lru_cache(maxsize=4096)
def output_schema(columns: tuple[Column, ...], numbers: Numbers, *, writes: bool = False) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `present` makes of these columns; not to be changed by callers."""
    properties: dict[str, Any] = {
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {column.name: _column_schema(column, numbers) for column in columns},
                "required": [column.name for column in columns],
                "additionalProperties": False,
            },
        },
        "row_count": {"type": "integer", "description": "Rows in this result"},
        "truncated": {"type": "boolean", "description": "Whether there are more rows than these"},
    }
    if writes:
        properties["affected_rows"] = {"type": "integer", "description": "Rows changed"}
    required = ["rows", "row_count", "truncated"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _column_schema(column: Column, numbers: Numbers) -> dict[str, Any]:
    if column.kind is Kind.ARRAY and column.items is not None:
        element = _kind_schema(column.items, numbers)
        items = {"anyOf": [element, {"type": "array"}]} if element else {}
        return {"type": ["array", "null"], "items": items}
    return _kind_schema(column.kind, numbers)


def _kind_schema(kind: Kind, numbers: Numbers) -> dict[str, Any]:
    is_text = numbers == "string"
    match kind:
        case Kind.INTEGER:
            return {"type": ["integer", "string", "null"] if is_text else ["integer", "null"]}
        case Kind.DECIMAL if is_text:
            return {"type": ["string", "null"], "description": "Decimal number"}
        case Kind.DECIMAL | Kind.FLOAT:
            return {"anyOf": [{"type": ["number", "null"]}, {"enum": _SPECIAL}]}
        case Kind.BOOLEAN:
            return {"type": ["boolean", "null"]}
        case Kind.BYTES:
            return {"type": ["string", "null"], "contentEncoding": "base64"}
        case Kind.UUID:
            return {"type": ["string", "null"], "format": "uuid"}
        case Kind.DATE | Kind.TIME | Kind.DATETIME | Kind.INTERVAL:
            return {"type": ["string", "null"], "description": _TEMPORAL[kind]}
        case Kind.TEXT:
            return {"type": ["string", "null"]}
        case Kind.ARRAY:
            return {"type": ["array", "null"]}
        case Kind.OBJECT:
            return {"type": ["object", "null"]}
        case Kind.JSON | Kind.ANY:
            return {}


_TEMPORAL: Final = {
    Kind.DATE: "ISO 8601 date",
    Kind.TIME: "ISO 8601 time, or a span of hours in that form",
    Kind.DATETIME: "ISO 8601 date and time, with an offset only where the database keeps one",
    Kind.INTERVAL: "ISO 8601 duration",
}


def exact_numbers(value: Any) -> Any:
    """A database value as orjson takes it; every number digit for digit.

    Raises:
        ValueError, TypeError, RecursionError: JSON cannot carry it.
    """
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else orjson.Fragment(str(value))
    if kind is float:
        return value if math.isfinite(value) else _special(Decimal(value))
    if kind is Decimal:
        return orjson.Fragment(str(value)) if value.is_finite() else _special(value)
    return _other(value, exact_numbers)


def string_numbers(value: Any) -> Any:
    """The same, with integers beyond 53 bits and all decimals as strings.

    Raises:
        ValueError, TypeError, RecursionError: JSON cannot carry it.
    """
    kind = type(value)
    if kind is int:
        return value if -_SAFE <= value <= _SAFE else str(value)
    if kind is Decimal:
        return str(value) if value.is_finite() else _special(value)
    if kind is list or kind is tuple or kind is dict:
        return _other(value, string_numbers)
    return exact_numbers(value)


def _other(value: Any, convert: Callable[[Any], Any]) -> Any:
    match value:
        case Json():
            return orjson.Fragment(_compact(value).encode())
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [convert(item) for item in value]
        case dict():
            return {str(key): convert(item) for key, item in value.items()}
    raise TypeError(f"no JSON for {type(value).__name__}")


def _special(value: Decimal) -> str:
    if value.is_nan():
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _compact(document: str) -> str:
    """The same document without space between its tokens; numbers, order and repeated keys stay.

    Raises:
        ValueError: it is not JSON (RFC 8259) or nests too deep.
    """
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(document):
        depth += (match[1] is not None) - (match[2] is not None)
        deepest = max(deepest, depth)
    if deepest > MAX_JSON_DEPTH:
        raise ValueError(f"JSON nested deeper than {MAX_JSON_DEPTH}")
    json.loads(document, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    return _STRING_OR_SPACE.sub(lambda match: match[1] or "", document)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unrepresentable(table: Table, convert: Callable[[Any], Any], error: Exception) -> ToolError:
    """Find the value that JSON cannot carry and name its column; a write has happened all the same."""
    done = _done(table)
    for row in table.rows:
        for column, value in zip(table.columns, row, strict=False):
            try:
                orjson.dumps([{column.name: convert(value)}])
            except (TypeError, ValueError, RecursionError) as reason:
                message = (
                    f'{done}Column "{column.name}" holds a value that JSON cannot carry exactly;'
                    " choose rows without it, or ask the operator to cast it."
                )
                return ToolError(Code.UNREPRESENTABLE, message, detail=f"{column.type_name}: {reason}")
    return ToolError(Code.UNREPRESENTABLE, f"{done}The result cannot be written as JSON.", detail=str(error))


def _too_large(table: Table, limit: int) -> ToolError:
    """An empty page would read as if there were no rows; so it is a failure."""
    message = (
        f"{_done(table)}One row alone is larger than the {format_size(limit)} that a result of this tool may have;"
        " choose other rows, use a tool that gives fewer columns, or tell the operator."
    )
    return ToolError(Code.RESULT_TOO_LARGE, message, detail=f"one row is beyond max_result_bytes {format_size(limit)}")


def _done(table: Table) -> str:
    return "" if table.affected is None else "The change was made, but its result cannot be shown. "
