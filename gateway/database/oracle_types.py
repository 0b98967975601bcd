"""Oracle's types: columns as the driver describes them, and values as plain exact Python.

Where the driver loses something (a zone, nanoseconds), the column is refused
when its statement is prepared, with what to write instead.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import oracledb
import orjson

from gateway.database.engine import Column, Json, Kind
from gateway.database.exact_json import dumps
from gateway.database.failures import failure
from gateway.errors import Code

Converter = Callable[[Any], Any]

_MICROSECONDS: Final = 6
_LOBS: Final = (oracledb.DB_TYPE_CLOB, oracledb.DB_TYPE_NCLOB, oracledb.DB_TYPE_BLOB)
_CASTS: Final = {
    oracledb.DB_TYPE_TIMESTAMP_TZ: (
        "the driver drops the zone; write sys_extract_utc({0}), cast({0} as timestamp(6) with local time zone),"
        " or to_char({0}, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF9TZH:TZM')"
    ),
    oracledb.DB_TYPE_BFILE: "it is a file outside of the database; read it with a function that gives a BLOB",
    oracledb.DB_TYPE_OBJECT: "select its attributes, or make text of it (json_object, xmlserialize)",
    oracledb.DB_TYPE_CURSOR: "a result has one level of rows; write json_arrayagg, or a procedure with a REF CURSOR",
}
_PRECISE: Final = (oracledb.DB_TYPE_TIMESTAMP, oracledb.DB_TYPE_TIMESTAMP_LTZ, oracledb.DB_TYPE_INTERVAL_DS)


def fetch_as(cursor: Any, column: Any) -> Any:
    """What the driver makes of a column: exact numbers; and JSON that is kept as text stays text."""
    if column.type_code is oracledb.DB_TYPE_NUMBER:
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    is_text_json = column.is_json and column.type_code is not oracledb.DB_TYPE_JSON
    if not (is_text_json or column.is_oson):
        return None
    return cursor.var(column.type_code, size=column.internal_size or 0, arraysize=cursor.arraysize)


def columns_of(description: Sequence[Any] | None) -> tuple[Column, ...]:
    """The columns of a cursor; none where it has no rows to give.

    Raises:
        ToolError: STATEMENT_INVALID naming a column that would not arrive as it is, and what to write.
    """
    return tuple(map(_column, description or ()))


def converters_of(description: Sequence[Any] | None) -> tuple[tuple[int, Converter], ...]:
    """For each column whose values need it, its index and what makes plain Python of them."""
    found = ((index, _converter(column)) for index, column in enumerate(description or ()))
    return tuple((index, convert) for index, convert in found if convert is not None)


def lobs_of(description: Sequence[Any] | None) -> tuple[int, ...]:
    """The columns whose values are read one by one."""
    return tuple(index for index, column in enumerate(description or ()) if column.type_code in _LOBS)


def _column(described: Any) -> Column:
    kind, name = described.type_code, described.name
    if kind in _CASTS:
        advice = _CASTS[kind].format(name)
        raise failure(Code.STATEMENT_INVALID, f"column {name} is {_type_name(described)}: {advice}")
    if kind in _PRECISE and (described.scale or 0) > _MICROSECONDS:
        advice = (
            f"the driver drops what is below a microsecond; cast it to a precision of {_MICROSECONDS}, or to_char it"
        )
        raise failure(Code.STATEMENT_INVALID, f"column {name} is {_type_name(described)}({described.scale}): {advice}")
    if described.is_json or described.is_oson:
        return Column(name, Kind.JSON, "json")
    if kind is oracledb.DB_TYPE_NUMBER:
        is_whole = described.precision and described.scale is not None and described.scale <= 0
        return Column(name, Kind.INTEGER if is_whole else Kind.DECIMAL, "number")
    if kind is oracledb.DB_TYPE_VECTOR:
        return Column(name, Kind.ARRAY, "vector", Kind.FLOAT)
    return Column(name, _KINDS.get(kind, Kind.TEXT), _type_name(described))


def _type_name(described: Any) -> str:
    kind = described.type_code
    return _WORDS.get(kind) or str(kind.name).removeprefix("DB_TYPE_").replace("_", " ").lower()


def _converter(described: Any) -> Converter | None:
    kind = described.type_code
    if described.is_oson or kind is oracledb.DB_TYPE_JSON:
        return _json
    if described.is_json:
        return lambda text: _json_text(text, described.name)
    if kind is oracledb.DB_TYPE_NUMBER:
        is_whole = described.precision and described.scale is not None and described.scale <= 0
        return _whole if is_whole else None
    return _CONVERTERS.get(kind)


def _whole(value: Any) -> Any:
    """An integer, as long as it is one: NUMBER(5,-2) too."""
    return int(value) if value == value.to_integral_value() else value


def moment(value: datetime) -> str:
    """A DATE or TIMESTAMP in ISO 8601; a DATE of Oracle has a time of day."""
    return value.isoformat()


def _instant(value: datetime) -> str:
    # The session's time zone is UTC, so the zone is known and not invented.
    return f"{value.isoformat()}+00:00"


def _days(value: timedelta) -> str:
    """INTERVAL DAY TO SECOND as an ISO 8601 duration, every part with the sign."""
    total = abs(value)
    sign = "-" if value < timedelta(0) else ""
    minutes, seconds = divmod(total.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{total.microseconds:06d}".rstrip("0") if total.microseconds else ""
    time = "".join(f"{sign}{part}{letter}" for part, letter in ((hours, "H"), (minutes, "M")) if part)
    time += f"{sign}{seconds}{fraction}S" if seconds or fraction else ""
    day = f"{sign}{total.days}D" if total.days else ""
    return f"P{day}{'T' if time else ''}{time}" if day or time else "PT0S"


def _months(value: Any) -> str:
    """INTERVAL YEAR TO MONTH as an ISO 8601 duration."""
    parts = "".join(f"{part}{letter}" for part, letter in ((value.years, "Y"), (value.months, "M")) if part)
    return f"P{parts or '0M'}"


def _single(value: float) -> float:
    """A BINARY_FLOAT as the shortest decimal that is the same single-precision number: 0.1 stays 0.1."""
    if value != value or value in (float("inf"), float("-inf")):
        return value
    raw = struct.pack("<f", value)
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= 3.4028235e38 and struct.pack("<f", short) == raw:
            return short
    return float(f"{value:.9g}")


def _vector(value: Any) -> list[Any]:
    if not isinstance(value, array.array):
        raise failure(Code.UNREPRESENTABLE, "a sparse VECTOR has no form in JSON; write to_vector with DENSE")
    return [_single(each) for each in value] if value.typecode == "f" else list(value)


def _json_text(text: str, name: str) -> Json:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = f"The column is {name}."
        raise failure(Code.UNREPRESENTABLE, f"column {name} holds text that is no JSON", hint=hint) from error
    return Json(text)


def _json(value: Any) -> Json:
    """Oracle's binary JSON: the driver gives its numbers exactly; types beyond JSON's become text."""
    return Json(dumps(_plain(value)))


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return _days(value)
        case bytes():
            return value.hex()
        case None | bool() | int() | float() | str() | Decimal():
            return value
        case array.array():
            return _vector(value)
        case _:
            return str(value)


_WORDS: Final = {
    oracledb.DB_TYPE_TIMESTAMP_TZ: "timestamp with time zone",
    oracledb.DB_TYPE_TIMESTAMP_LTZ: "timestamp with local time zone",
    oracledb.DB_TYPE_INTERVAL_DS: "interval day to second",
    oracledb.DB_TYPE_INTERVAL_YM: "interval year to month",
    oracledb.DB_TYPE_VARCHAR: "varchar2",
    oracledb.DB_TYPE_NVARCHAR: "nvarchar2",
    oracledb.DB_TYPE_LONG_RAW: "long raw",
}
_KINDS: Final = {
    **dict.fromkeys((oracledb.DB_TYPE_BINARY_FLOAT, oracledb.DB_TYPE_BINARY_DOUBLE), Kind.FLOAT),
    **dict.fromkeys((oracledb.DB_TYPE_RAW, oracledb.DB_TYPE_LONG_RAW, oracledb.DB_TYPE_BLOB), Kind.BYTES),
    **dict.fromkeys((oracledb.DB_TYPE_DATE, oracledb.DB_TYPE_TIMESTAMP, oracledb.DB_TYPE_TIMESTAMP_LTZ), Kind.DATETIME),
    **dict.fromkeys((oracledb.DB_TYPE_INTERVAL_DS, oracledb.DB_TYPE_INTERVAL_YM), Kind.INTERVAL),
    oracledb.DB_TYPE_BOOLEAN: Kind.BOOLEAN,
    oracledb.DB_TYPE_JSON: Kind.JSON,
}
_CONVERTERS: Final[dict[Any, Converter]] = {
    oracledb.DB_TYPE_DATE: moment,
    oracledb.DB_TYPE_TIMESTAMP: moment,
    oracledb.DB_TYPE_TIMESTAMP_LTZ: _instant,
    oracledb.DB_TYPE_INTERVAL_DS: _days,
    oracledb.DB_TYPE_INTERVAL_YM: _months,
    oracledb.DB_TYPE_BINARY_FLOAT: _single,
    oracledb.DB_TYPE_VECTOR: _vector,
}
