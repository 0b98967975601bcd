"""What fixed SQL may do inside SQLite: it stays in its file, its transaction and its settings."""

from __future__ import annotations

import sqlite3
from typing import Final

_PRAGMAS: Final = frozenset(
    {
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "collation_list",
        "function_list",
        "compile_options",
        "user_version",
        "application_id",
        "page_count",
        "page_size",
        "freelist_count",
        "encoding",
        "schema_version",
    }
)
"""Pragmas that a tool may ask: they tell about the schema and change nothing without an argument."""
_SETTABLE: Final = frozenset({"user_version", "application_id", "page_size", "encoding", "schema_version"})

_FORBIDDEN: Final = frozenset(
    {
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_DROP_VTABLE,
    }
)


def is_allowed(action: int, first: str | None, second: str | None) -> bool:
    """The authorizer's verdict (https://www.sqlite.org/c3ref/set_authorizer.html).

    Args:
        action: an authorizer action code.
        first: its first argument; the name of a pragma.
        second: its second argument; the argument of a pragma.
    """
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        return name in _PRAGMAS and (second is None or name not in _SETTABLE)
    return action not in _FORBIDDEN
