"""Oracle's types: columns as the driver describes them, and values as plain exact Python.

What the driver loses a part of (a zone, nanoseconds) is asked for as text, by
`oracle_exact`; where that cannot be, the column is refused with what to write instead.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Callable, Container, Sequence
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
    oracledb.DB_TYPE_BFILE: "it is a file outside of the database; read it with a function that gives a BLOB",
    oracledb.DB_TYPE_OBJECT: "select its attributes, or make text of it (json_object, xmlserialize)",
    oracledb.DB_TYPE_CURSOR: "a result has one level of rows; write json_arrayagg, or a procedure with a REF CURSOR",
}
_PRECISE: Final = (oracledb.DB_TYPE_TIMESTAMP, oracledb.DB_TYPE_TIMESTAMP_LTZ, oracledb.DB_TYPE_INTERVAL_DS)


def is_cut(described: Any) -> bool:
    """Whether the driver loses a part of such a column's values: the zone, or what is below a microsecond."""
    kind = described.type_code
    return kind is oracledb.DB_TYPE_TIMESTAMP_TZ or (kind in _PRECISE and (described.scale or 0) > _MICROSECONDS)


def fetch_as(cursor: Any, column: Any) -> Any:
    """What the driver makes of a column: exact numbers; and JSON that is kept as text stays text."""
    if column.type_code is oracledb.DB_TYPE_NUMBER:
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    is_text_json = column.is_json and column.type_code is not oracledb.DB_TYPE_JSON
    if not (is_text_json or column.is_oson):
        return None
    return cursor.var(column.type_code, size=column.internal_size or 0, arraysize=cursor.arraysize)


def columns_of(description: Sequence[Any] | None, texts: Container[int] = ()) -> tuple[Column, ...]:
    """The columns of a cursor; none where it has no rows to give.

    Args:
        description: the driver's.
        texts: the columns that are asked for as text.

    Raises:
        ToolError: STATEMENT_INVALID naming a column that would not arrive as it is, and what to write.
    """
    return tuple(_column(column, is_text=index in texts) for index, column in enumerate(description or ()))


def converters_of(description: Sequence[Any] | None) -> tuple[tuple[int, Converter], ...]:
    """For each column whose values need it, its index and what makes plain Python of them."""
    found = ((index, _converter(column)) for index, column in enumerate(description or ()))
    return tuple((index, convert) for index, convert in found if convert is not None)


def lobs_of(description: Sequence[Any] | None) -> tuple[int, ...]:
    """The columns whose values are read one by one."""
    return tuple(index for index, column in enumerate(description or ()) if column.type_code in _LOBS)


def _column(described: Any, *, is_text: bool) -> Column:
    kind, name = described.type_code, described.name
    advice = _CASTS.get(kind)
    if is_cut(described) and not is_text:
        advice = "the driver drops a part of it; make text of it there: to_char"
    if advice is not None:
        raise failure(Code.STATEMENT_INVALID, f"column {name} is {type_name(described)}: {advice}")
    if described.is_json or described.is_oson:
        return Column(name, Kind.JSON, "json")
    if kind is oracledb.DB_TYPE_NUMBER:
        is_whole = described.precision and described.scale is not None and described.scale <= 0
        return Column(name, Kind.INTEGER if is_whole else Kind.DECIMAL, "number")
    if kind is oracledb.DB_TYPE_VECTOR:
        return Column(name, Kind.ARRAY, "vector", Kind.FLOAT)
    return Column(name, _KINDS.get(kind, Kind.TEXT), type_name(described))


def type_name(described: Any) -> str:
    """A column's type in Oracle's words."""
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
    """INTERVAL DAY TO SECOND as an ISO 8601 duration."""
    total = abs(value)
    minutes, seconds = divmod(total.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if value < timedelta(0) else ""
    return duration(sign, total.days, hours, minutes, seconds, f"{total.microseconds:06d}")


def duration(sign: str, days: int, hours: int, minutes: int, seconds: int, fraction: str) -> str:
    """An ISO 8601 duration, every part with the sign; `fraction` has the digits behind the seconds' point."""
    fraction = fraction.rstrip("0")
    second = f"{sign}{seconds}{f'.{fraction}' * bool(fraction)}S" if seconds or fraction else ""
    time = "".join(f"{sign}{part}{letter}" for part, letter in ((hours, "H"), (minutes, "M")) if part) + second
    day = f"{sign}{days}D" if days else ""
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
    try:
        return Json(dumps(_plain(value)))
    except RecursionError:  # far beyond what a result may nest
        raise failure(Code.UNREPRESENTABLE, "a JSON document nests too deep") from None


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
    **dict.fromkeys((oracledb.DB_TYPE_DATE, oracledb.DB_TYPE_TIMESTAMP), Kind.DATETIME),
    **dict.fromkeys((oracledb.DB_TYPE_TIMESTAMP_LTZ, oracledb.DB_TYPE_TIMESTAMP_TZ), Kind.DATETIME),
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
