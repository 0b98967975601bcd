"""SQLite: typeless values in typed columns, and SQL that may not leave its file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.database.engine import Json, Kind
from gateway.errors import Code, ToolError
from tests.database.conftest import make_sqlite, sqlite_settings
from tests.database.support import reached, run, started, statement, until

TYPES = [
    ("integer", "9223372036854775807", Kind.INTEGER, (1 << 63) - 1),
    ("bigint", "-9223372036854775808", Kind.INTEGER, -(1 << 63)),
    ("real", "0.1", Kind.FLOAT, 0.1),
    ("double precision", "1e308", Kind.FLOAT, 1e308),
    ("real", "9e999", Kind.FLOAT, float("inf")),
    ("varchar(10)", "'ü😀'", Kind.TEXT, "ü😀"),
    ("text", "''", Kind.TEXT, ""),
    ("boolean", "1", Kind.BOOLEAN, True),
    ("bool", "0", Kind.BOOLEAN, False),
    ("json", "'{\"a\":1.10}'", Kind.JSON, Json('{"a":1.10}')),
    ("json", "'12'", Kind.JSON, 12),
    ("blob", "x'00ff'", Kind.ANY, b"\x00\xff"),
    ("blob", "'text'", Kind.ANY, "text"),
    ("decimal(10,2)", "1.5", Kind.ANY, 1.5),
    ("date", "'2024-01-01'", Kind.ANY, "2024-01-01"),
    ("", "'x'", Kind.ANY, "x"),
    *((declared, "null", kind, None) for declared, kind in (("integer", Kind.INTEGER), ("json", Kind.JSON))),
]


def make(path: Path, *script: str) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(";".join(script))
    db.close()


def files(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


@pytest.mark.parametrize(("declared", "literal", "kind", "expected"), TYPES)
async def test_declared_types_decide_the_kind(
    tmp_path: Path, declared: str, literal: str, kind: Kind, expected: Any
) -> None:
    make(tmp_path / "types.db", f"create table t (v {declared})", f"insert into t values ({literal})")
    async with reached(sqlite_settings(tmp_path / "types.db")) as source:
        table = await run(source, statement(source.engine, "select v from t"))
    assert table.columns[0].kind is kind
    assert (table.rows[0][0], type(table.rows[0][0])) == (expected, type(expected))


@pytest.mark.parametrize(
    ("declared", "literal"),
    [("integer", "'text'"), ("integer", "1.5"), ("text", "x'00'"), ("boolean", "2"), ("json", "'{'"), ("real", "'x'")],
)
async def test_a_value_that_breaks_its_type_names_the_column(tmp_path: Path, declared: str, literal: str) -> None:
    make(
        tmp_path / "broken.db", f"create table t (fine text, odd {declared})", f"insert into t values ('x', {literal})"
    )
    async with reached(sqlite_settings(tmp_path / "broken.db")) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "select fine, odd from t"))
    assert caught.value.code is Code.UNREPRESENTABLE
    assert "odd" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "attach 'other.db' as other",
        "attach ':memory:' as other",
        "pragma query_only = off",
        "pragma journal_mode = delete",
        "pragma user_version = 7",
        "begin",
        "savepoint s",
        "create temporary table t (a)",
        "select load_extension('x')",
        "vacuum into 'copy.db'",
    ],
)
@pytest.mark.parametrize("access", ["read-only", "read-write"])
async def test_fixed_sql_stays_in_its_file(tmp_path: Path, text: str, access: str) -> None:
    make_sqlite(tmp_path / "fence.db")
    async with reached(sqlite_settings(tmp_path / "fence.db", access=access)) as source:
        with pytest.raises(ToolError):
            await run(source, statement(source.engine, text))
        assert (await run(source, statement(source.engine, "select count(*) from item", name="n"))).rows[0][0] == 3
    assert files(tmp_path, "*.db") == ["fence.db"]


async def test_the_schema_may_be_asked_about(tmp_path: Path) -> None:
    make_sqlite(tmp_path / "schema.db")
    async with reached(sqlite_settings(tmp_path / "schema.db")) as source:
        for text in (
            "select name from pragma_table_info('item')",
            "pragma table_info(item)",
            "select sqlite_version()",
        ):
            assert (await run(source, statement(source.engine, text, name=text))).rows
        plan = statement(source.engine, "explain query plan select * from item where id = :id", id="integer")
        assert (await run(source, plan, 1)).rows


async def test_a_file_is_never_created(tmp_path: Path) -> None:
    for access in ("read-only", "read-write"):
        async with started(sqlite_settings(tmp_path / "none.db", access=access)) as source:
            await until(lambda source=source: source.trouble.startswith("source_unavailable"))  # type: ignore[misc]
    assert files(tmp_path, "*") == []


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello " * 200)
    async with started(sqlite_settings(tmp_path / "text.db")) as source:
        await until(lambda: "NOTADB" in source.trouble)


async def test_a_locked_file_is_a_conflict(tmp_path: Path) -> None:
    make_sqlite(tmp_path / "locked.db")
    settings = sqlite_settings(tmp_path / "locked.db", access="read-write", connect_timeout="100ms")
    async with reached(settings) as source:
        db = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
        db.execute("begin immediate")
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "delete from item", writes=True))
        assert caught.value.code is Code.CONFLICT
        db.close()


async def test_the_loop_goes_on_while_sqlite_works(tmp_path: Path) -> None:
    make_sqlite(tmp_path / "busy.db")
    async with reached(sqlite_settings(tmp_path / "busy.db", statement_timeout="300ms")) as source:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) as c from n"
        with pytest.raises(ToolError):
            await run(source, statement(source.engine, endless))
        ticker.cancel()
    assert ticks > 10


async def test_threads_end_with_the_source(tmp_path: Path) -> None:
    make_sqlite(tmp_path / "threads.db")
    async with reached(sqlite_settings(tmp_path / "threads.db"), name="ending"):
        pass
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "sqlite-ending"])


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        (Decimal(2), "number", 2),
        (Decimal("0.5"), "number", 0.5),
        ([1, Decimal("1.10")], "array", "[1,1.10]"),
        ({"a": None}, "object", '{"a":null}'),
        (True, "boolean", 1),
        ("'; drop table item", "string", "'; drop table item"),
        (None, "string", None),
    ],
)
async def test_values_are_bound(tmp_path: Path, value: Any, declared: str, expected: Any) -> None:
    make_sqlite(tmp_path / "bind.db")
    async with reached(sqlite_settings(tmp_path / "bind.db")) as source:
        item = statement(source.engine, "select :v as v, :v as again", v=declared)
        assert list((await run(source, item, value)).rows[0]) == [expected, expected]
