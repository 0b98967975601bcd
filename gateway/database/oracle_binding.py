"""Arguments as bind variables, typed by what the tool declares and never by what a caller happens to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import oracledb

from gateway.database import oracle_outputs as outputs
from gateway.database.engine import Statement
from gateway.database.exact_json import dumps
from gateway.database.failures import failure
from gateway.errors import Code

_MOST_DIGITS: Final = 38
_LEAST, _MOST = -130, 125
"""Powers of ten that a NUMBER holds (SQL Language Reference, "NUMBER Data Type")."""
_BOOLEANS_SINCE: Final = 23


def name_of(position: int) -> str:
    """The name of a bind variable: never one of the words that Oracle refuses there (ORA-01745)."""
    return f"P{position}"


def sizes_of(statement: Statement, *, has_booleans: bool) -> dict[str, Any]:
    """The types of binds that are told to the driver; of others the value tells.

    Args:
        has_booleans: whether the server's SQL has a type BOOLEAN (23ai).
    """
    boolean = oracledb.DB_TYPE_BOOLEAN if has_booleans else oracledb.DB_TYPE_NUMBER
    known = {"integer": oracledb.DB_TYPE_NUMBER, "number": oracledb.DB_TYPE_NUMBER, "boolean": boolean}
    return {name_of(index): known[kind] for index, kind in enumerate(statement.types, 1) if kind in known}


def bind(statement: Statement, values: Sequence[Any], *, has_booleans: bool) -> dict[str, Any]:
    """The values by the names of their binds.

    Raises:
        ToolError: INVALID_VALUE naming the parameter that Oracle cannot hold.
    """
    binders = _BINDERS if has_booleans else _BINDERS_BEFORE_23
    bound = {}
    rows = enumerate(zip(statement.parameters, statement.types, values, strict=True), 1)
    for position, (name, kind, value) in rows:
        try:
            bound[name_of(position)] = None if value is None else binders.get(kind, _any)(value)
        except (TypeError, ValueError, OverflowError) as error:
            reason = "is not valid Unicode" if isinstance(error, UnicodeError) else str(error)
            raise failure(Code.INVALID_VALUE, f"parameter {name}: {reason}", hint=f"{name} {reason}.") from error
    return bound


def check_names(statement: Statement, found: Sequence[str]) -> None:
    """Hold the driver's idea of a statement's binds to ours.

    Raises:
        ToolError: STATEMENT_INVALID, they read the text differently.
    """
    expected = {name_of(position) for position in range(1, len(statement.parameters) + 1)}
    expected |= {outputs.name_of(position) for position in range(1, len(statement.outputs) + 1)}
    if expected != set(found):
        odd = ", ".join(sorted(expected ^ set(found)))
        raise failure(Code.STATEMENT_INVALID, f"the driver sees other bind variables than the gateway: {odd}")


def has_booleans(version: str) -> bool:
    """Whether a server of this version has BOOLEAN in SQL."""
    return int(version.partition(".")[0]) >= _BOOLEANS_SINCE


def _number(value: Any) -> Decimal | int:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError("must be a number")
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValueError("must be a finite number")
    if not number:
        return 0  # zeros with an exponent are beyond the driver
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if len(digits) > _MOST_DIGITS or not _LEAST <= number.adjusted() <= _MOST:
        raise ValueError(f"must have at most {_MOST_DIGITS} digits, within 1E{_LEAST} and 1E{_MOST}")
    return value if isinstance(value, int) else number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else dumps(value)
    text.encode()
    return text


def _any(value: Any) -> Any:
    return value if isinstance(value, bytes) else _text(value)


_BINDERS: Final[dict[str, Callable[[Any], Any]]] = {"integer": _number, "number": _number, "boolean": _boolean}
_BINDERS_BEFORE_23: Final[dict[str, Callable[[Any], Any]]] = _BINDERS | {"boolean": lambda value: int(_boolean(value))}
