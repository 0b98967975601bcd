"""Values for PostgreSQL: by the server's own parameter types, checked before anything is sent."""

from __future__ import annotations

import base64
import ipaddress
import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

from gateway.database import postgresql_numeric as numeric
from gateway.database import postgresql_time as temporal
from gateway.database.engine import Statement
from gateway.database.exact_json import dumps
from gateway.database.failures import failure
from gateway.errors import Code

Binder = Callable[[Any], Any]

_NUMBERS: Final = frozenset({"integer", "number"})
_STRING: Final = frozenset({"string"})
_ANYTHING: Final = frozenset({"string", "integer", "number", "boolean", "array", "object"})


def binders_of(statement: Statement, types: Sequence[Any]) -> tuple[Binder, ...]:
    """For each bind position, how a JSON value becomes what the driver takes.

    Args:
        statement: with each position's parameter and JSON type.
        types: the server's types, as asyncpg gives them.

    Raises:
        ToolError: STATEMENT_INVALID naming the parameter whose JSON type cannot be bound.
    """
    if len(types) != len(statement.parameters):
        raise failure(
            Code.STATEMENT_INVALID,
            f"the statement takes {len(types)} values and {len(statement.parameters)} are declared",
        )
    return tuple(map(_binder, statement.parameters, statement.types, types))


def bind(statement: Statement, binders: Sequence[Binder], values: Sequence[Any]) -> list[Any]:
    """The values as the driver takes them.

    Raises:
        ToolError: INVALID_VALUE naming the parameter that does not fit its type.
    """
    return [
        None if value is None else _bind_one(name, binder, value)
        for name, binder, value in zip(statement.parameters, binders, values, strict=True)
    ]


def _bind_one(name: str, binder: Binder, value: Any) -> Any:
    try:
        return binder(value)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else "the value has the wrong type"
        raise failure(
            Code.INVALID_VALUE, f"parameter {name}: {type(error).__name__}: {error}", hint=f"{name}: {reason}."
        ) from error


def _binder(parameter: str, declared: str, server: Any) -> Binder:
    is_array = server.kind == "array"
    allowed: frozenset[str]
    binder: Binder
    name = server.name.removesuffix("[]")
    if server.kind in {"range", "multirange", "composite"}:
        allowed, binder = frozenset(), _text
    elif server.schema != "pg_catalog":
        allowed, binder = (_ANYTHING, _as_it_is) if is_array else (_STRING, _text)
    else:
        allowed, binder = _BINDERS.get(name, (_STRING, _text))
    if is_array:
        allowed, binder = frozenset({"array"}), _each(binder)
    if declared in allowed:
        return binder
    wanted = " or ".join(sorted(allowed)) or "something that cannot be bound"
    advice = f"declare it {wanted} or cast it" if allowed else "cast it from text"
    cast = {"integer": "bigint", "number": "numeric", "boolean": "boolean"}.get(declared, "text")
    raise failure(
        Code.STATEMENT_INVALID,
        f"parameter {parameter} is declared {declared}, but the statement uses it as {server.name}:"
        f" {advice}: :{parameter}::{cast}",
    )


def _each(binder: Binder) -> Binder:
    def bind_all(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeError("not an array")
        return [
            None if item is None else bind_all(item) if isinstance(item, list | tuple) else binder(item)
            for item in value
        ]

    return bind_all


def _as_it_is(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    if "\0" in value:
        raise ValueError("PostgreSQL's text cannot hold the character U+0000")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode") from None
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    return value


def _whole(least: int, most: int) -> Binder:
    def whole(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
            raise TypeError("not a number")
        if not math.isfinite(value) or not least <= value <= most:  # before int(): 1E+999999999 is a short text
            raise ValueError(f"must be between {least} and {most}")
        if value != int(value):
            raise ValueError("must be a whole number")
        return int(value)

    return whole


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise TypeError("not a number")
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        raise ValueError("must be a decimal number") from None
    numeric.encode(number)
    return number


def _real(most: float) -> Binder:
    def real(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise TypeError("not a number")
        number = float(value)
        if math.isinf(number) or abs(number) > most:
            raise ValueError("the number is too large")
        return number

    return real


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except ValueError:
        raise ValueError("must be base64") from None


def _checked(check: Callable[[str], Any]) -> Binder:
    """Text that must have a form; the driver's codec makes the binary of it."""

    def bind_text(value: Any) -> str:
        text = _text(value)
        check(text)
        return text

    return bind_text


def _uuid(text: str) -> None:
    from_digits = text.replace("-", "")
    if len(from_digits) != 32 or from_digits.strip("0123456789abcdefABCDEF"):
        raise ValueError("must be a UUID")


def _bits(text: str) -> None:
    if text.strip("01"):
        raise ValueError("must consist of 0 and 1")


def _address(text: str) -> None:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError("must be an IP address") from None


def _network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be an IP network such as 10.0.0.0/24") from None


_UNBOUND: Final = (
    *("point", "box", "path", "polygon", "circle", "line", "lseg", "record"),
    *("tid", "pg_lsn", "char", "pg_snapshot", "txid_snapshot"),
)
"""Types without a JSON form of their own to bind from: the statement casts them from text."""

_BINDERS: Final = MappingProxyType(
    {
        "bool": (frozenset({"boolean"}), _boolean),
        "int2": (_NUMBERS, _whole(-(1 << 15), (1 << 15) - 1)),
        "int4": (_NUMBERS, _whole(-(1 << 31), (1 << 31) - 1)),
        "int8": (_NUMBERS, _whole(-(1 << 63), (1 << 63) - 1)),
        **dict.fromkeys(("oid", "xid", "cid"), (_NUMBERS, _whole(0, (1 << 32) - 1))),
        "xid8": (_NUMBERS, _whole(0, (1 << 64) - 1)),
        "numeric": (_NUMBERS | _STRING, _decimal),
        "float4": (_NUMBERS, _real(3.4028234663852886e38)),
        "float8": (_NUMBERS, _real(math.inf)),
        "bytea": (_STRING, _bytes),
        **dict.fromkeys(("json", "jsonb"), (_ANYTHING, lambda value: _text(dumps(value)))),
        "uuid": (_STRING, _checked(_uuid)),
        "date": (_STRING, _checked(temporal.date_binary)),
        "timestamp": (_STRING, _checked(temporal.timestamp_binary)),
        "timestamptz": (_STRING, _checked(temporal.timestamptz_binary)),
        "time": (_STRING, _checked(temporal.time_binary)),
        "timetz": (_STRING, _checked(temporal.timetz_binary)),
        "interval": (_STRING, _checked(temporal.interval_binary)),
        "inet": (_STRING, _checked(_address)),
        "cidr": (_STRING, _checked(_network)),
        **dict.fromkeys(("bit", "varbit"), (_STRING, _checked(_bits))),
        **dict.fromkeys(_UNBOUND, (frozenset[str](), _text)),
    }
)
"""Server type -> JSON types that it takes, and how. Everything else takes text."""
