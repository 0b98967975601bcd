"""The page on types shows, for every type that the engines' tests know, what those tests expect."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from gateway.database.engine import Kind
from gateway.database.sqlite_types import kind_of
from gateway.tools.results import exact_numbers
from tests.database import test_mysql_types, test_oracle_types, test_postgresql_types

PAGE: Final = Path(__file__).parents[2] / "docs/reference/types.md"
WORDS: Final = {
    Kind.INTEGER: "number, all digits",
    Kind.DECIMAL: "number, all digits",
    Kind.FLOAT: "number, shortest form",
    Kind.BOOLEAN: "`true`, `false`",
    Kind.TEXT: "string",
    Kind.BYTES: "string, base64",
    Kind.DATE: "string, ISO 8601 date",
    Kind.TIME: "string, time",
    Kind.DATETIME: "string, ISO 8601 date and time",
    Kind.INTERVAL: "string, ISO 8601 duration",
    Kind.UUID: "string, UUID",
    Kind.JSON: "the document itself",
    Kind.ARRAY: "array",
    Kind.OBJECT: "object",
    Kind.ANY: "what the value is",
}
LONGEST: Final = 72
SQLITE: Final = (
    *("INTEGER", "BIGINT", "BOOLEAN", "JSON", "TEXT", "VARCHAR(20)", "CLOB"),
    *("REAL", "DOUBLE", "FLOAT", "BLOB", "NUMERIC", "DECIMAL(10,2)", "DATE", "DATETIME", ""),
)


def lines(entries: Iterable[tuple[str, Kind, Any]]) -> list[str]:
    """A line for each type, with the values of the tests that are short enough to read."""
    found: dict[str, tuple[Kind, list[str]]] = {}
    for name, kind, value in entries:
        _, examples = found.setdefault(name, (kind, []))
        text = orjson.dumps(exact_numbers(value)).decode()
        if value is not None and text not in examples and len(text) <= LONGEST:
            examples.append(text)
    table = ["| type | JSON | examples |", "|---|---|---|"]
    for name, (kind, examples) in found.items():
        shown = ", ".join(f"`{text}`" for text in examples)
        table.append(f"| `{name}` | {WORDS[kind]} | {shown} |")
    return table


def postgresql() -> list[str]:
    literals = {"true": "bool", "B'101'": "bit", "null": "text"}
    named: list[tuple[str, Kind, Any]] = []
    for expression, kind, value in test_postgresql_types.TABLE:
        cast = re.search(r'::"?([a-z0-9_]+)"?$', expression)
        special = {Kind.ARRAY: "any[]", Kind.OBJECT: "composite"}
        name = special.get(kind) or literals.get(expression) or (cast[1] if cast else "")
        if name:
            named.append((name, kind, value))
    return lines(named)


def mysql() -> list[str]:
    return lines((name, kind, value) for _, _, name, kind, value in test_mysql_types.TABLE)


def oracle() -> list[str]:
    return lines((name, kind, value) for _, _, name, kind, value in test_oracle_types.TABLE)


def sqlite() -> list[str]:
    table = ["| declared type | JSON |", "|---|---|"]
    return table + [
        f"| `{name}` | {WORDS[kind_of(name)]} |" if name else "| none | what the value is |" for name in SQLITE
    ]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [("PostgreSQL", postgresql()), ("MySQL and MariaDB", mysql()), ("Oracle", oracle()), ("SQLite", sqlite())],
)
def test_tables_are_what_the_tests_expect(heading: str, expected: list[str]) -> None:
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    section = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    assert [line for line in section.splitlines() if line.startswith("|")] == expected
