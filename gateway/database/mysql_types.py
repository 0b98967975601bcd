"""MySQL's and MariaDB's types: exact values from the binary protocol."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import orjson
from pymysql.constants import FIELD_TYPE, FLAG

from gateway.database.engine import Column, Json, Kind
from gateway.database.failures import failure
from gateway.database.mysql_fields import Field, Packet
from gateway.errors import Code

Decoder = Callable[[Packet], Any]

_BINARY: Final = 63
"""The character set of bytes that are not text."""
_INTEGERS: Final = {
    FIELD_TYPE.TINY: ("<b", "<B"),
    FIELD_TYPE.SHORT: ("<h", "<H"),
    FIELD_TYPE.YEAR: ("<h", "<H"),
    FIELD_TYPE.LONG: ("<i", "<I"),
    FIELD_TYPE.INT24: ("<i", "<I"),
    FIELD_TYPE.LONGLONG: ("<q", "<Q"),
}
_BLOBS: Final = (FIELD_TYPE.TINY_BLOB, FIELD_TYPE.BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB)
_KINDS: Final = {
    **dict.fromkeys((*_INTEGERS, FIELD_TYPE.BIT), Kind.INTEGER),
    **dict.fromkeys((FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL), Kind.DECIMAL),
    **dict.fromkeys((FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE), Kind.FLOAT),
    **dict.fromkeys((FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE), Kind.DATE),
    **dict.fromkeys((FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP), Kind.DATETIME),
    FIELD_TYPE.TIME: Kind.TIME,
    FIELD_TYPE.JSON: Kind.JSON,
    FIELD_TYPE.NULL: Kind.ANY,
}
_BY_NAME: Final = {"uuid": Kind.UUID, "json": Kind.JSON}
_NAMES: Final = {
    FIELD_TYPE.TINY: "tinyint",
    FIELD_TYPE.SHORT: "smallint",
    FIELD_TYPE.INT24: "mediumint",
    FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint",
    FIELD_TYPE.YEAR: "year",
    FIELD_TYPE.BIT: "bit",
    FIELD_TYPE.DECIMAL: "decimal",
    FIELD_TYPE.NEWDECIMAL: "decimal",
    FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "double",
    FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date",
    FIELD_TYPE.DATETIME: "datetime",
    FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.TIME: "time",
    FIELD_TYPE.JSON: "json",
    FIELD_TYPE.NULL: "null",
}
_LENGTHS: Final = ((255, "tiny"), (65535, ""), (16777215, "medium"))


def column_of(field: Field) -> Column:
    """The column that a field describes."""
    kind = _KINDS.get(field.type_code)
    if kind is not None:
        name = _NAMES[field.type_code]
        is_unsigned = field.type_code in _INTEGERS and field.flags & FLAG.UNSIGNED and name != "year"
        return Column(field.name, kind, f"{name} unsigned" if is_unsigned else name)
    own = field.extended_format or field.extended_type
    if own in _BY_NAME:
        return Column(field.name, _BY_NAME[own], own)
    kind = Kind.BYTES if field.charsetnr == _BINARY else Kind.TEXT
    return Column(field.name, kind, own or _string_name(field, is_text=kind is Kind.TEXT))


def _string_name(field: Field, *, is_text: bool) -> str:
    if field.type_code == FIELD_TYPE.GEOMETRY:
        return "geometry"
    if field.flags & (FLAG.ENUM | FLAG.SET):
        return "enum" if field.flags & FLAG.ENUM else "set"
    if field.type_code in _BLOBS:
        length = field.length // 4 if is_text else field.length  # told in bytes of utf8mb4 for the declared length
        prefix = next((prefix for most, prefix in _LENGTHS if length <= most), "long")
        return prefix + ("text" if is_text else "blob")
    if field.type_code == FIELD_TYPE.STRING:
        return "char" if is_text else "binary"
    return "varchar" if is_text else "varbinary"


def decoder_of(field: Field) -> Decoder:
    """What reads one value of a column from a row of the binary protocol."""
    code = field.type_code
    if code in _INTEGERS:
        return _fixed(_INTEGERS[code][bool(field.flags & FLAG.UNSIGNED)])
    if code == FIELD_TYPE.FLOAT:
        return _single
    if code == FIELD_TYPE.DOUBLE:
        return _fixed("<d")
    if code in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        return lambda packet: Decimal(packet.read_length_coded_string().decode("ascii"))
    if code in (FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE):
        return lambda packet: _moment(packet, is_date=True)
    if code == FIELD_TYPE.DATETIME:
        return lambda packet: _moment(packet, decimals=field.scale)
    if code == FIELD_TYPE.TIMESTAMP:
        # The session's time zone is UTC, so the zone is known and not invented.
        return lambda packet: _moment(packet, decimals=field.scale, zone="+00:00")
    if code == FIELD_TYPE.TIME:
        return lambda packet: _duration(packet, field.scale)
    if code == FIELD_TYPE.BIT:
        return lambda packet: int.from_bytes(packet.read_length_coded_string(), "big")
    if code == FIELD_TYPE.JSON:
        return lambda packet: Json(packet.read_length_coded_string().decode("utf-8"))
    if field.extended_format == "json":
        return lambda packet: _checked(packet.read_length_coded_string().decode("utf-8"), field.name)
    if code == FIELD_TYPE.GEOMETRY:
        # Stored as the SRID in four bytes, then WKB (reference manual, "Internal Geometry Storage Format").
        return lambda packet: bytes(packet.read_length_coded_string())[4:]
    if field.charsetnr == _BINARY:
        return lambda packet: bytes(packet.read_length_coded_string())
    return lambda packet: packet.read_length_coded_string().decode("utf-8")


def _checked(text: str, name: str) -> Json:
    """MariaDB's JSON is text with a check that a session can switch off."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise failure(
            Code.UNREPRESENTABLE, f"column {name} holds text that is no JSON", hint=f"The column is {name}."
        ) from error
    return Json(text)


def _fixed(layout: str) -> Decoder:
    size = struct.calcsize(layout)
    unpack = struct.Struct(layout).unpack
    return lambda packet: unpack(packet.read(size))[0]


def _single(packet: Packet) -> float:
    """A FLOAT as the shortest decimal that is the same single-precision number: 0.1 stays 0.1."""
    raw = packet.read(4)
    value: float = struct.unpack("<f", raw)[0]
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= 3.4028235e38 and struct.pack("<f", short) == raw:
            return short
    return float(f"{value:.9g}")


def _fraction(micros: int, decimals: int) -> str:
    return f".{micros:06d}"[: decimals + 1] if 0 < decimals <= 6 else (f".{micros:06d}" if micros else "")


def _moment(packet: Packet, *, is_date: bool = False, decimals: int = 0, zone: str = "") -> str:
    """A date or date and time in ISO 8601; zero dates as the database writes them."""
    size = packet.read_uint8()
    raw = packet.read(size).ljust(11, b"\0")
    year, month, day, hour, minute, second, micros = struct.unpack("<HBBBBBI", raw)
    date = f"{year:04d}-{month:02d}-{day:02d}"
    if is_date:
        return date
    return f"{date}T{hour:02d}:{minute:02d}:{second:02d}{_fraction(micros, decimals)}{zone}"


def _duration(packet: Packet, decimals: int) -> str:
    """A TIME, which is a span of up to 838 hours, as the database writes it."""
    size = packet.read_uint8()
    raw = packet.read(size).ljust(12, b"\0")
    is_negative, days, hours, minutes, seconds, micros = struct.unpack("<BIBBBI", raw)
    sign = "-" if is_negative else ""
    return f"{sign}{days * 24 + hours:02d}:{minutes:02d}:{seconds:02d}{_fraction(micros, decimals)}"
