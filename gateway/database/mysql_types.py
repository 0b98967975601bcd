"""MySQL's and MariaDB's types: exact values from the binary protocol, and parameters into it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from gateway.database.engine import Column, Json, Kind

_BINARY: Final = 63
"""The character set of bytes that are not text."""
_MAX_SIGNED: Final = 2**63
_MAX_UNSIGNED: Final = 2**64
_INTEGERS: Final = {
    FIELD_TYPE.TINY: ("<b", "<B"),
    FIELD_TYPE.SHORT: ("<h", "<H"),
    FIELD_TYPE.YEAR: ("<h", "<H"),
    FIELD_TYPE.LONG: ("<i", "<I"),
    FIELD_TYPE.INT24: ("<i", "<I"),
    FIELD_TYPE.LONGLONG: ("<q", "<Q"),
}
_NAMES: Final = {value: name.lower() for name, value in vars(FIELD_TYPE).items() if isinstance(value, int)}
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
_TEXT_NAMES: Final = {"tiny_blob": "tinytext", "blob": "text", "medium_blob": "mediumtext", "long_blob": "longtext"}


def column_of(field: FieldDescriptorPacket) -> Column:
    """The column that a field describes."""
    kind = _KINDS.get(field.type_code)
    name = _NAMES.get(field.type_code, "")
    if kind is None:
        kind = Kind.BYTES if field.charsetnr == _BINARY else Kind.TEXT
        name = _TEXT_NAMES.get(name, name) if kind is Kind.TEXT else name
    return Column(field.name, kind, name)


def decoder_of(field: FieldDescriptorPacket) -> Callable[[MysqlPacket], Any]:
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
    if field.charsetnr == _BINARY:
        return lambda packet: bytes(packet.read_length_coded_string())
    return lambda packet: packet.read_length_coded_string().decode("utf-8")


def _fixed(layout: str) -> Callable[[MysqlPacket], Any]:
    size = struct.calcsize(layout)
    unpack = struct.Struct(layout).unpack
    return lambda packet: unpack(packet.read(size))[0]


def _single(packet: MysqlPacket) -> float:
    """A FLOAT as the shortest decimal that is the same single-precision number: 0.1 stays 0.1."""
    raw = packet.read(4)
    value: float = struct.unpack("<f", raw)[0]
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= 3.4028235e38 and struct.pack("<f", short) == raw:
            return short
    return float(f"{value:.9g}")


def _fraction(micros: int, decimals: int) -> str:
    return f".{micros:06d}"[: decimals + 1] if 0 < decimals <= 6 else (f".{micros:06d}" if micros else "")


def _moment(packet: MysqlPacket, *, is_date: bool = False, decimals: int = 0, zone: str = "") -> str:
    """A date or date and time in ISO 8601; zero dates as the database writes them."""
    size = packet.read_uint8()
    raw = packet.read(size).ljust(11, b"\0")
    year, month, day, hour, minute, second, micros = struct.unpack("<HBBBBBI", raw)
    date = f"{year:04d}-{month:02d}-{day:02d}"
    if is_date:
        return date
    return f"{date}T{hour:02d}:{minute:02d}:{second:02d}{_fraction(micros, decimals)}{zone}"


def _duration(packet: MysqlPacket, decimals: int) -> str:
    """A TIME, which is a span of up to 838 hours, as the database writes it."""
    size = packet.read_uint8()
    raw = packet.read(size).ljust(12, b"\0")
    is_negative, days, hours, minutes, seconds, micros = struct.unpack("<BIBBBI", raw)
    sign = "-" if is_negative else ""
    return f"{sign}{days * 24 + hours:02d}:{minutes:02d}:{seconds:02d}{_fraction(micros, decimals)}"


def _lenenc(data: bytes) -> bytes:
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    if size < 1 << 16:
        return b"\xfc" + struct.pack("<H", size) + data
    if size < 1 << 24:
        return b"\xfd" + struct.pack("<I", size)[:3] + data
    return b"\xfe" + struct.pack("<Q", size) + data


def encode_parameter(value: Any) -> tuple[bytes, bytes]:
    """A parameter's type (two bytes) and value for COM_STMT_EXECUTE."""
    match value:
        case None:
            return bytes([FIELD_TYPE.NULL, 0]), b""
        case bool():
            return bytes([FIELD_TYPE.TINY, 0]), bytes([value])
        case int() if -_MAX_SIGNED <= value < _MAX_SIGNED:
            return bytes([FIELD_TYPE.LONGLONG, 0]), struct.pack("<q", value)
        case int() if 0 <= value < _MAX_UNSIGNED:
            return bytes([FIELD_TYPE.LONGLONG, 0x80]), struct.pack("<Q", value)
        case int() | Decimal():
            return bytes([FIELD_TYPE.NEWDECIMAL, 0]), _lenenc(f"{value:f}".encode("ascii"))
        case float():
            return bytes([FIELD_TYPE.DOUBLE, 0]), struct.pack("<d", value)
        case bytes():
            return bytes([FIELD_TYPE.BLOB, 0]), _lenenc(value)
        case str():
            return bytes([FIELD_TYPE.VAR_STRING, 0]), _lenenc(value.encode("utf-8"))
        case _:
            return bytes([FIELD_TYPE.VAR_STRING, 0]), _lenenc(_json(value).encode("utf-8"))


def _json(value: Any) -> str:
    """JSON with every digit of its numbers."""
    match value:
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{_json(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value)
