"""Oracle's types on the wire: a column's metadata and values, from what SQLite holds."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from tests.servers.oracle.moments import day_to_second, moment, read_moment, year_to_month
from tests.servers.oracle.wire import Reader, chunks, sized, ub

VARCHAR, NUMBER, LONG, DATE, RAW, LONG_RAW, CHAR = 1, 2, 8, 12, 23, 24, 96
BINARY_FLOAT, BINARY_DOUBLE, CURSOR, CLOB, BLOB, JSON, VECTOR = 100, 101, 102, 112, 113, 119, 127
TIMESTAMP, TIMESTAMP_TZ, INTERVAL_YM, INTERVAL_DS, TIMESTAMP_LTZ, BOOLEAN = 180, 181, 182, 183, 231, 252
LOBS: Final = frozenset({CLOB, BLOB})
DOCUMENTS: Final = frozenset({JSON, VECTOR})
"""What travels as LOBs do, and whole."""
_TEXTS: Final = frozenset({VARCHAR, LONG, CHAR, CLOB})
_UTF8: Final = 873
_NO_BOOLEAN: Final = 253
_IS_JSON: Final = 0x100


@dataclass(frozen=True)
class Shape:
    """A column or bind as described."""

    name: str
    kind: int
    size: int = 0
    precision: int = 0
    scale: int = 0
    is_json: bool = False

    def described(self) -> bytes:
        """The column's part of a describe answer at field version 13."""
        is_text = self.kind in _TEXTS
        small = bytes([self.kind, 0, self.precision & 0xFF, self.scale & 0xFF])
        charset = ub(_UTF8 if is_text else 0) + bytes([1 if is_text else 0])
        name = self.name.encode()
        tail = ub(0) + b"\1" + bytes([min(len(name), 255)]) + sized(name) + sized(b"") + sized(b"") + ub(1)
        return (
            small
            + (ub(self.size or 22) + ub(0) + ub(0) + sized(b"") + ub(0) + charset + ub(self.size if is_text else 0))
            + tail
            + ub(_IS_JSON if self.is_json else 0)
        )


def read_shape(reader: Reader) -> Shape:
    """The metadata of a bind or of a define."""
    kind = reader.byte()
    reader.skip("bbb")
    size = reader.ub()
    reader.skip("uu")
    reader.sized()
    reader.skip("uubuu")
    return Shape("", kind, size)


def shape_of(name: str, declared: str, example: Any) -> Shape:
    """A column's type by its declaration, or by an example where it has none."""
    words = declared.upper()
    numbers = [int(digits) for digits in re.findall(r"-?\d+", words)]
    for pattern, make in _DECLARED:
        if re.match(pattern, words):
            return replace(make(numbers), name=name)
    if isinstance(example, int | float):
        return Shape(name, NUMBER, 22, 0, -127)
    return Shape(name, RAW, 2000) if isinstance(example, bytes) else Shape(name, VARCHAR, 4000)


def _number(numbers: list[int]) -> Shape:
    precision, scale = (*numbers, 0, 0)[:2] if numbers else (0, -127)
    return Shape("", NUMBER, 22, precision, scale)


def _fixed(kind: int, size: int) -> Callable[[list[int]], Shape]:
    return lambda numbers: Shape("", kind, size)


def _fraction(kind: int, size: int) -> Callable[[list[int]], Shape]:
    return lambda numbers: Shape("", kind, size, 0, numbers[-1] if numbers else 6)


_DECLARED: Final[tuple[tuple[str, Callable[[list[int]], Shape]], ...]] = (
    (r"INTEGER|INT$|BIGINT|SMALLINT", lambda numbers: Shape("", NUMBER, 22, 38, 0)),
    (r"NUMBER|DECIMAL|NUMERIC", _number),
    (r"BINARY_FLOAT", _fixed(BINARY_FLOAT, 4)),
    (r"BINARY_DOUBLE|REAL|DOUBLE", _fixed(BINARY_DOUBLE, 8)),
    (r"DATE$", _fixed(DATE, 7)),
    (r"TIMESTAMP.*LOCAL", _fraction(TIMESTAMP_LTZ, 11)),
    (r"TIMESTAMP.*ZONE", _fraction(TIMESTAMP_TZ, 13)),
    (r"TIMESTAMP", _fraction(TIMESTAMP, 11)),
    (r"INTERVAL DAY", _fraction(INTERVAL_DS, 11)),
    (r"INTERVAL YEAR", _fixed(INTERVAL_YM, 5)),
    (r"RAW", lambda numbers: Shape("", RAW, (numbers or [2000])[0])),
    (r"N?CLOB", _fixed(CLOB, 4000)),
    (r"BLOB", _fixed(BLOB, 4000)),
    (r"BOOLEAN", _fixed(BOOLEAN, 4)),
    (r"OSON", _fixed(JSON, 4000)),
    (r"VECTOR", _fixed(VECTOR, 4000)),
    (r"JSON", lambda numbers: Shape("", VARCHAR, 4000, is_json=True)),
    (r"CHAR", lambda numbers: Shape("", CHAR, (numbers or [1])[0])),
    (r"VARCHAR|NVARCHAR|TEXT", lambda numbers: Shape("", VARCHAR, (numbers or [4000])[0])),
)


def number(value: Any) -> bytes:
    """An Oracle NUMBER: an exponent byte and base-100 digits."""
    decimal = Decimal(value.decode() if isinstance(value, bytes) else str(value))
    sign, digits, exponent = decimal.as_tuple()  # exact, as no arithmetic is
    if not any(digits):
        return b"\x80"
    text = "".join(map(str, digits)) + "0" * (int(exponent) % 2)
    shift = (int(exponent) - int(exponent) % 2) // 2
    text = text.rjust(len(text) + len(text) % 2, "0")
    pairs = [int(text[at : at + 2]) for at in range(0, len(text), 2)]
    while pairs[-1] == 0:
        pairs, shift = pairs[:-1], shift + 1
    head = 0x80 | (len(pairs) + shift - 1 + 65)
    if not sign:
        return bytes([head, *(pair + 1 for pair in pairs)])
    tail = [102] if len(pairs) < 20 else []
    return bytes([head ^ 0xFF, *(101 - pair for pair in pairs), *tail])


def read_number(data: bytes) -> Decimal:
    if data == b"\x80":
        return Decimal(0)
    is_negative = not data[0] & 0x80
    exponent = ((data[0] ^ 0xFF) if is_negative else data[0]) - 0x80 - 65
    digits = data[1:].rstrip(b"\x66") if is_negative else data[1:]
    pairs = [101 - digit if is_negative else digit - 1 for digit in digits]
    whole = int("".join(f"{pair:02d}" for pair in pairs))
    return Decimal((int(is_negative), tuple(map(int, str(whole))), 2 * (exponent - len(pairs) + 1)))


def _binary(layout: str, value: float) -> bytes:
    data = struct.pack(layout, float(value))
    return bytes([data[0] | 0x80]) + data[1:] if not data[0] & 0x80 else bytes(byte ^ 0xFF for byte in data)


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


_ENCODERS: Final[dict[int, Callable[[Any], bytes]]] = {
    **dict.fromkeys((VARCHAR, CHAR, LONG, RAW, LONG_RAW, CLOB, BLOB), _text),
    NUMBER: number,
    BINARY_FLOAT: lambda value: _binary(">f", value),
    BINARY_DOUBLE: lambda value: _binary(">d", value),
    DATE: lambda value: moment(value).wire(has_time=False, has_zone=False),
    **dict.fromkeys((TIMESTAMP, TIMESTAMP_LTZ), lambda value: moment(value).wire(has_time=True, has_zone=False)),
    TIMESTAMP_TZ: lambda value: moment(value).wire(has_time=True, has_zone=True),
    INTERVAL_DS: day_to_second,
    INTERVAL_YM: year_to_month,
    BOOLEAN: lambda value: b"\1\1" if value else b"\0",
}


def encoder(kind: int) -> Callable[[Any], bytes]:
    """What makes the bytes of a type's values."""
    return _ENCODERS[kind]


def encoded(value: Any, kind: int) -> bytes:
    """A value that is no LOB locator and no cursor."""
    data = chunks(None if value is None else _ENCODERS[kind](value))
    return data + (ub(0) + ub(0) if kind in (LONG, LONG_RAW) else b"")


def read_value(reader: Reader, shape: Shape) -> Any:
    """A bind's value, as SQLite takes it."""
    if shape.kind == CURSOR:
        if reader.byte() and reader.byte():  # 0 is none, 1 0 is one that was never open
            reader.ub()
        return None
    if shape.kind == BOOLEAN:
        length = reader.byte()
        data = reader.raw(1 if length == _NO_BOOLEAN else length)
        return None if length == _NO_BOOLEAN else int(data[0] == 1)
    data_or_none = reader.chunks()
    if data_or_none is None:
        return None
    if shape.kind == NUMBER:
        value = read_number(data_or_none)
        if value == value.to_integral_value() and abs(value) < 2**63:
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value).encode()
    if shape.kind in (DATE, TIMESTAMP, TIMESTAMP_TZ, TIMESTAMP_LTZ):
        return read_moment(data_or_none)
    return data_or_none if shape.kind in (RAW, LONG_RAW) else data_or_none.decode()
