"""Arguments as the parameters of COM_STMT_EXECUTE (MySQL internals manual, "Binary Protocol Value")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from pymysql.constants import FIELD_TYPE

from gateway.database.engine import Statement
from gateway.database.exact_json import dumps
from gateway.database.failures import failure
from gateway.errors import Code

_MAX_SIGNED: Final = 1 << 63
_MAX_UNSIGNED: Final = 1 << 64
_UNSIGNED: Final = 0x80
_MOST_DIGITS: Final = 65
_MOST_SCALE: Final = 30
"""What DECIMAL holds (reference manual, "Precision Math"); the server would cut what is longer, silently."""


def bind(statement: Statement, values: Sequence[Any]) -> bytes:
    """NULL bitmap, types and values.

    Raises:
        ToolError: INVALID_VALUE naming the parameter that the database cannot hold.
    """
    if not values:
        return b""
    nulls = sum(1 << index for index, value in enumerate(values) if value is None)
    encoded = [
        _encode_named(name, kind, value)
        for name, kind, value in zip(statement.parameters, statement.types, values, strict=True)
    ]
    bitmap = nulls.to_bytes((len(values) + 7) // 8, "little")
    return bitmap + b"\x01" + b"".join(kind for kind, _ in encoded) + b"".join(data for _, data in encoded)


def _encode_named(name: str, kind: str, value: Any) -> tuple[bytes, bytes]:
    try:
        # JSON's 10.0 is an integer to JSON Schema; LIMIT and the like take nothing else.
        return encode(int(_digits(value)) if kind == "integer" and isinstance(value, Decimal) else value)
    except (TypeError, ValueError) as error:
        reason = "is not valid Unicode" if isinstance(error, UnicodeError) else str(error)
        raise failure(Code.INVALID_VALUE, f"parameter {name}: {reason}", hint=f"{name} {reason}.") from error


def encode(value: Any) -> tuple[bytes, bytes]:
    """A parameter's type (two bytes) and value.

    Raises:
        ValueError: no type of the database holds it.
    """
    match value:
        case None:
            return _kind(FIELD_TYPE.NULL), b""
        case bool():
            return _kind(FIELD_TYPE.TINY), bytes([value])
        case int() if -_MAX_SIGNED <= value < _MAX_SIGNED:
            return _kind(FIELD_TYPE.LONGLONG), struct.pack("<q", value)
        case int() if 0 <= value < _MAX_UNSIGNED:
            return _kind(FIELD_TYPE.LONGLONG, _UNSIGNED), struct.pack("<Q", value)
        case int() | Decimal():
            return _kind(FIELD_TYPE.NEWDECIMAL), _sized(_digits(Decimal(value)).encode("ascii"))
        case float():
            return _kind(FIELD_TYPE.DOUBLE), struct.pack("<d", value)
        case bytes():
            return _kind(FIELD_TYPE.BLOB), _sized(value)
        case str():
            return _kind(FIELD_TYPE.VAR_STRING), _sized(value.encode("utf-8"))
        case _:
            return _kind(FIELD_TYPE.VAR_STRING), _sized(dumps(value).encode("utf-8"))


def _kind(code: int, flag: int = 0) -> bytes:
    return bytes([code, flag])


def _digits(value: Decimal) -> str:
    """The number without an exponent; its size is looked at first, since 1E+999999999 is a short text."""
    if not value.is_finite():
        raise ValueError("must be a finite number")
    _, digits, exponent = value.as_tuple()
    significant = len("".join(map(str, digits)).rstrip("0")) or 1
    scale = max(0, significant - 1 - value.adjusted()) if value else 0
    whole = max(0, value.adjusted() + 1) if value else 0
    if scale > _MOST_SCALE or whole + scale > _MOST_DIGITS:
        raise ValueError(f"must have at most {_MOST_DIGITS} digits, {_MOST_SCALE} of them after the point")
    text = f"{value:f}" if value else "0"
    is_whole = "." in text and not scale
    return text.partition(".")[0] if is_whole else text[: len(text) - max(0, -int(exponent) - _MOST_SCALE)]


def _sized(data: bytes) -> bytes:
    """A length-encoded string."""
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    if size < 1 << 16:
        return b"\xfc" + struct.pack("<H", size) + data
    if size < 1 << 24:
        return b"\xfd" + struct.pack("<I", size)[:3] + data
    return b"\xfe" + struct.pack("<Q", size) + data
