"""PostgreSQL's types in JSON's terms: column kinds, and the values that asyncpg does not give as text."""

from __future__ import annotations

import ipaddress
import math
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import asyncpg

from gateway.database import postgresql_numeric as numeric
from gateway.database import postgresql_time as temporal
from gateway.database.engine import Column, Json, Kind

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "bool": Kind.BOOLEAN,
        **dict.fromkeys(("int2", "int4", "int8", "oid", "xid", "xid8", "cid"), Kind.INTEGER),
        "numeric": Kind.DECIMAL,
        **dict.fromkeys(("float4", "float8"), Kind.FLOAT),
        "bytea": Kind.BYTES,
        "date": Kind.DATE,
        **dict.fromkeys(("time", "timetz"), Kind.TIME),
        **dict.fromkeys(("timestamp", "timestamptz"), Kind.DATETIME),
        "interval": Kind.INTERVAL,
        "uuid": Kind.UUID,
        **dict.fromkeys(("json", "jsonb"), Kind.JSON),
        **dict.fromkeys(("int2vector", "oidvector"), Kind.INTEGER),
        **dict.fromkeys(("record", "void", "anyarray"), Kind.ANY),
    }
)
"""Types of pg_catalog that are not text."""

_AS_THEY_COME: Final = frozenset(Kind) - {Kind.TEXT, Kind.ARRAY, Kind.OBJECT, Kind.ANY}
_STRINGS: Final = frozenset({"text", "varchar", "bpchar", "name", "xml", "money"})


def column_of(attribute: Any) -> Column:
    """The column that a prepared statement's attribute describes."""
    kind_of_type, name = attribute.type.kind, attribute.type.name
    if kind_of_type == "array":
        return Column(attribute.name, Kind.ARRAY, name, _element(attribute.type))
    if kind_of_type == "composite":
        return Column(attribute.name, Kind.OBJECT, name)
    if attribute.type.schema != "pg_catalog":
        return Column(attribute.name, Kind.TEXT, name)
    return Column(attribute.name, KINDS.get(name, Kind.TEXT), name)


def _element(array: Any) -> Kind:
    if array.schema != "pg_catalog":
        return Kind.ANY  # an enum, a composite or a domain: the driver does not say which
    return KINDS.get(array.name.removesuffix("[]"), Kind.TEXT)


def converter_of(attribute: Any) -> Callable[[Any], Any] | None:
    """What must be done to a column's values; None when they come as they should."""
    kind_of_type, name = attribute.type.kind, attribute.type.name
    if kind_of_type == "multirange":
        return _multirange
    if kind_of_type == "array" and name.endswith("multirange[]"):
        return _multiranges
    if kind_of_type == "scalar" and attribute.type.schema == "pg_catalog":
        if name == "char":
            return _char
        if name in _STRINGS or KINDS.get(name, Kind.TEXT) in _AS_THEY_COME:
            return None
    return plain


def plain(value: Any) -> Any:
    """A value without asyncpg's own classes: text as PostgreSQL writes it, lists, and objects for rows."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, asyncpg.Record):
        names = list(value.keys())
        return {name: plain(value[name]) for name in names} if any(names) else [*map(plain, value.values())]
    if write := _WRITERS.get(type(value)):
        return write(value)
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _multirange(value: Sequence[Any] | None) -> str | None:
    return None if value is None else "{" + ",".join(map(range_text, value)) + "}"


def _multiranges(value: Any) -> Any:
    """An array of multiranges, of any depth: the lists that hold ranges, or nothing, are the multiranges."""
    if value is None or all(isinstance(item, asyncpg.Range) for item in value):
        return _multirange(value)
    return [_multiranges(item) for item in value]


def range_text(value: Any) -> str:
    """A range as PostgreSQL writes it: `[1,10)`, `empty`."""
    if value.isempty:
        return "empty"
    lower = "" if value.lower is None else _quoted(plain(value.lower))
    upper = "" if value.upper is None else _quoted(plain(value.upper))
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


def _quoted(bound: Any) -> str:
    text = str(bound)
    if text and not any(mark in '"\\()[],' or mark.isspace() for mark in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'


def _number(value: float) -> str:
    """A float8 as PostgreSQL writes it: the shortest digits that read back the same."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if math.isnan(value):
        return "NaN"
    text = repr(value)
    return text.removesuffix(".0")


def _point(value: Any) -> str:
    return f"({_number(value[0])},{_number(value[1])})"


def _points(value: Any) -> str:
    return ",".join(_point(point) for point in value)


def _path(value: Any) -> str:
    return f"({_points(value.points)})" if value.is_closed else f"[{_points(value.points)}]"


def _network(value: Any) -> str:
    """inet and cidr: an inet names its mask only when it is not one host, a cidr always."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return f"{_address(value.network_address)}/{value.prefixlen}"
    if isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        return f"{_address(value.ip)}/{value.network.prefixlen}"
    return _address(value)


def _address(value: Any) -> str:
    return socket.inet_ntop(socket.AF_INET if value.version == 4 else socket.AF_INET6, value.packed)


_WRITERS: Final[Mapping[type, Callable[[Any], Any]]] = MappingProxyType(
    {
        asyncpg.Range: range_text,
        asyncpg.Point: _point,
        asyncpg.Box: lambda value: f"{_point(value.high)},{_point(value.low)}",
        asyncpg.LineSegment: lambda value: f"[{_points(value)}]",
        asyncpg.Path: _path,
        asyncpg.Polygon: lambda value: f"({_points(value.points)})",
        asyncpg.Circle: lambda value: f"<{_point(value[0])},{_number(value[1])}>",
        asyncpg.Line: lambda value: "{" + ",".join(map(_number, value)) + "}",
        ipaddress.IPv4Address: _network,
        ipaddress.IPv6Address: _network,
        ipaddress.IPv4Interface: _network,
        ipaddress.IPv6Interface: _network,
        ipaddress.IPv4Network: _network,
        ipaddress.IPv6Network: _network,
    }
)


def _float4(data: bytes) -> float:
    """The shortest decimal that is this single, so that 0.1 stays 0.1."""
    (value,) = struct.unpack(">f", data)
    if not math.isfinite(value):
        return float(value)
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.pack(">f", short) == data:
                return short
        except OverflowError:
            continue  # rounded up beyond the largest single
    return float(value)


def _float4_binary(value: float) -> bytes:
    return struct.pack(">f", value)


def _char(value: bytes | None) -> str | None:
    """The internal type "char": one byte, written as PostgreSQL does."""
    if value is None or value in {b"\0", b""}:
        return None if value is None else ""
    return value.decode("ascii") if value[0] < 128 else f"\\{value[0]:03o}"


def _bits(data: bytes) -> str:
    (length,) = struct.unpack_from(">i", data)
    return f"{int.from_bytes(data[4:]):0{(len(data) - 4) * 8}b}"[:length] if length else ""


def _bits_binary(text: str) -> bytes:
    if text.strip("01"):
        raise ValueError("expected a string of 0 and 1")
    size = (len(text) + 7) // 8
    return struct.pack(">i", len(text)) + int(text.ljust(size * 8, "0") or "0", 2).to_bytes(size)


def _uuid(data: bytes) -> str:
    return str(UUID(bytes=data))


def _uuid_binary(text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError as error:
        raise ValueError("expected a UUID") from error


def _lsn(data: bytes) -> str:
    high, low = struct.unpack(">II", data)
    return f"{high:X}/{low:X}"


def _lsn_binary(text: str) -> bytes:
    high, _, low = text.partition("/")
    return struct.pack(">II", int(high, 16), int(low, 16))


def _tid(data: bytes) -> str:
    return "({},{})".format(*struct.unpack(">IH", data))


def _tid_binary(text: str) -> bytes:
    block, _, offset = text.strip("()").partition(",")
    return struct.pack(">IH", int(block), int(offset))


def _jsonb(data: bytes) -> Json:
    return Json(data[1:].decode())  # after the version, always 1


CODECS: Final[Sequence[tuple[str, str, Callable[[Any], Any], Callable[[Any], Any]]]] = (
    ("date", "tuple", temporal.date_binary, temporal.date_text),
    ("timestamp", "tuple", temporal.timestamp_binary, temporal.timestamp_text),
    ("timestamptz", "tuple", temporal.timestamptz_binary, temporal.timestamptz_text),
    ("time", "tuple", temporal.time_binary, temporal.time_text),
    ("timetz", "tuple", temporal.timetz_binary, temporal.timetz_text),
    ("interval", "tuple", temporal.interval_binary, temporal.interval_text),
    ("numeric", "binary", numeric.encode, numeric.decode),
    ("float4", "binary", _float4_binary, _float4),
    ("json", "binary", lambda text: text.encode(), lambda data: Json(data.decode())),
    ("jsonb", "binary", lambda text: b"\x01" + text.encode(), _jsonb),
    ("uuid", "binary", _uuid_binary, _uuid),
    ("bit", "binary", _bits_binary, _bits),
    ("varbit", "binary", _bits_binary, _bits),
    ("pg_lsn", "binary", _lsn_binary, _lsn),
    ("tid", "binary", _tid_binary, _tid),
    ("pg_snapshot", "text", str, str),
    ("txid_snapshot", "text", str, str),
)
"""Type, asyncpg's format, encoder, decoder. Binary, since asyncpg decodes no composite that holds a text codec."""
