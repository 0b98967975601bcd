"""SQLite's failures by result code (https://www.sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3
from types import MappingProxyType
from typing import Final

from gateway.database.failures import failure
from gateway.errors import Code, ToolError

_CODES: Final = MappingProxyType(
    {
        sqlite3.SQLITE_ERROR: Code.STATEMENT_INVALID,
        sqlite3.SQLITE_PERM: Code.ACCESS_DENIED,
        sqlite3.SQLITE_BUSY: Code.CONFLICT,
        sqlite3.SQLITE_LOCKED: Code.CONFLICT,
        sqlite3.SQLITE_NOMEM: Code.SOURCE_UNAVAILABLE,
        sqlite3.SQLITE_READONLY: Code.READ_ONLY,
        sqlite3.SQLITE_INTERRUPT: Code.STATEMENT_TIMEOUT,
        sqlite3.SQLITE_IOERR: Code.SOURCE_UNAVAILABLE,
        sqlite3.SQLITE_CORRUPT: Code.SOURCE_UNAVAILABLE,
        sqlite3.SQLITE_FULL: Code.SOURCE_UNAVAILABLE,
        sqlite3.SQLITE_CANTOPEN: Code.SOURCE_UNAVAILABLE,
        sqlite3.SQLITE_PROTOCOL: Code.CONFLICT,
        sqlite3.SQLITE_SCHEMA: Code.CONFLICT,
        sqlite3.SQLITE_TOOBIG: Code.INVALID_VALUE,
        sqlite3.SQLITE_CONSTRAINT: Code.CONSTRAINT_VIOLATION,
        sqlite3.SQLITE_MISMATCH: Code.INVALID_VALUE,
        sqlite3.SQLITE_MISUSE: Code.INTERNAL,
        sqlite3.SQLITE_AUTH: Code.ACCESS_DENIED,
        sqlite3.SQLITE_RANGE: Code.STATEMENT_INVALID,
        sqlite3.SQLITE_NOTADB: Code.SOURCE_UNAVAILABLE,
    }
)
"""Primary result codes."""


def translate(error: BaseException) -> ToolError:
    """Name an exception of the sqlite3 module."""
    if isinstance(error, ToolError):
        return error
    detail = f"{type(error).__name__}: {error}"
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        name = f"{detail} [{getattr(error, 'sqlite_errorname', code)}]"
        return failure(_CODES.get(code & 0xFF, Code.INTERNAL), name, is_sent=True)
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.Warning):
        return failure(Code.STATEMENT_INVALID, detail)
    if isinstance(error, sqlite3.DataError | OverflowError | UnicodeError):
        return failure(Code.INVALID_VALUE, detail)
    return failure(Code.INTERNAL, detail)
