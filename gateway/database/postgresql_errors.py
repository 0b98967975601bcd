"""PostgreSQL's failures by SQLSTATE (PostgreSQL documentation, Appendix A)."""

from __future__ import annotations

import ssl
from types import MappingProxyType
from typing import Final

import asyncpg

from gateway.database import tls
from gateway.database.failures import failure
from gateway.errors import Code, ToolError

_STATES: Final = MappingProxyType(
    {
        "25006": Code.READ_ONLY,
        "25P03": Code.CONNECTION_LOST,
        "25P04": Code.STATEMENT_TIMEOUT,
        "26000": Code.CONFLICT,
        "2BP01": Code.CONSTRAINT_VIOLATION,
        "3D000": Code.LOGIN_FAILED,
        "40002": Code.CONSTRAINT_VIOLATION,
        "40003": Code.OUTCOME_UNKNOWN,
        "42501": Code.ACCESS_DENIED,
        "57014": Code.STATEMENT_TIMEOUT,
        "57P01": Code.CONNECTION_LOST,
        "57P02": Code.CONNECTION_LOST,
        "57P03": Code.SOURCE_UNAVAILABLE,
        "57P04": Code.CONNECTION_LOST,
        "57P05": Code.CONNECTION_LOST,
        "58030": Code.SOURCE_UNAVAILABLE,
    }
)
"""States that differ from the rest of their class."""

_CLASSES: Final = MappingProxyType(
    {
        "08": Code.CONNECTION_LOST,
        "09": Code.INVALID_VALUE,  # triggered action exception
        "0A": Code.STATEMENT_INVALID,
        "0L": Code.ACCESS_DENIED,
        "0P": Code.ACCESS_DENIED,
        "20": Code.INVALID_VALUE,
        "21": Code.INVALID_VALUE,
        "22": Code.INVALID_VALUE,
        "23": Code.CONSTRAINT_VIOLATION,
        "24": Code.STATEMENT_INVALID,
        "25": Code.STATEMENT_INVALID,
        "27": Code.CONSTRAINT_VIOLATION,  # triggered data change violation
        "28": Code.LOGIN_FAILED,
        "2D": Code.STATEMENT_INVALID,
        "2F": Code.STATEMENT_INVALID,
        "34": Code.STATEMENT_INVALID,
        "38": Code.INVALID_VALUE,  # external routine
        "39": Code.INVALID_VALUE,
        "3B": Code.STATEMENT_INVALID,
        "3F": Code.STATEMENT_INVALID,
        "40": Code.CONFLICT,
        "42": Code.STATEMENT_INVALID,
        "44": Code.CONSTRAINT_VIOLATION,  # WITH CHECK OPTION
        "53": Code.SOURCE_UNAVAILABLE,
        "54": Code.STATEMENT_INVALID,
        "55": Code.CONFLICT,
        "57": Code.STATEMENT_TIMEOUT,
        "58": Code.SOURCE_UNAVAILABLE,
        "72": Code.CONFLICT,  # snapshot too old
        "F0": Code.SOURCE_UNAVAILABLE,
        "HV": Code.SOURCE_UNAVAILABLE,  # a foreign server
        "P0": Code.INVALID_VALUE,  # RAISE in a function
        "XX": Code.INTERNAL,
    }
)
"""Classes: the first two characters of a state."""


_FIELDS: Final = ("position", "detail", "hint", "schema_name", "table_name", "column_name", "constraint_name")


def code_of(state: str) -> Code:
    """The code for an SQLSTATE; unknown classes are internal."""
    return _STATES.get(state) or _CLASSES.get(state[:2], Code.INTERNAL)


def translate(error: BaseException) -> ToolError:
    """Name whatever asyncpg or the network raised."""
    if isinstance(error, ToolError):
        return error
    if isinstance(error.__cause__, ssl.SSLError):  # TLS 1.3: the server refuses our certificate after the handshake
        return failure(Code.SOURCE_UNAVAILABLE, tls.explain(error.__cause__))
    if isinstance(error, asyncpg.PostgresError):
        return _from_server(error)
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLError):
        return failure(Code.SOURCE_UNAVAILABLE, tls.explain(error))
    if isinstance(error, asyncpg.UnsupportedClientFeatureError):
        return failure(Code.STATEMENT_INVALID, f"{detail}; cast the column or parameter to text")
    if isinstance(error, asyncpg.DataError | UnicodeError | OverflowError):
        return failure(Code.INVALID_VALUE, detail)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return failure(Code.CONNECTION_LOST, detail, is_sent=True)  # also while the server's goodbye is read
    if isinstance(error, TimeoutError):
        return failure(Code.CONNECT_TIMEOUT, detail)
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):  # the driver gives it no code
        return failure(Code.SOURCE_UNAVAILABLE, tls.NOT_OFFERED)
    if isinstance(error, OSError):
        return failure(Code.SOURCE_UNAVAILABLE, detail)
    return failure(Code.INTERNAL, detail, is_sent=True)


def _from_server(error: asyncpg.PostgresError) -> ToolError:
    state = getattr(error, "sqlstate", None) or "XX000"
    code = code_of(state)
    parts = [f"{type(error).__name__}: {error.args[0] if error.args else ''} [{state}]"]
    parts += [f"{field.removesuffix('_name')}: {value}" for field in _FIELDS if (value := getattr(error, field, None))]
    constraint = getattr(error, "constraint_name", None)
    hint = f"The rule is {constraint}." if code is Code.CONSTRAINT_VIOLATION and constraint else ""
    return failure(code, "; ".join(parts), hint=hint, is_sent=True)
