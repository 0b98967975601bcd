"""One behaviour, every engine: the same tests run unchanged on all of them."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from gateway.database.engine import Kind
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.conftest import Database
from tests.database.support import ROUNDS, call, reached, run, statement, until
from tests.tally import Tally


async def test_a_row_comes_back_with_its_columns(database: Database) -> None:
    async with reached(database.settings()) as source:
        item = statement(source.engine, database.typed, id="integer")
        table = await run(source, item, 2)
    assert [(column.name, column.kind) for column in table.columns] == [("id", Kind.INTEGER), ("label", Kind.TEXT)]
    assert [list(row) for row in table.rows] == [[2, "two"]]
    assert not table.is_truncated
    assert table.affected is None


@pytest.mark.parametrize(
    ("rows", "limit"), [(0, 5), (4, 5), (5, 5), (6, 5), (2000, 1500), (1500, 1500), (1, 1), (2, 1)]
)
async def test_rows_are_limited_and_the_cut_is_told(database: Database, rows: int, limit: int) -> None:
    async with reached(database.settings()) as source:
        item = statement(source.engine, database.series, n="integer")
        table = await run(source, item, rows, max_rows=limit)
    assert len(table.rows) == min(rows, limit) or (database.name == "sqlite" and rows == 0)
    assert table.is_truncated == (rows > limit)


async def test_shapes_are_learned_and_broken_statements_named(database: Database) -> None:
    source_engine = None
    async with reached(database.settings()) as source:
        source_engine = source.engine
    good = statement(source_engine, database.typed, name="good", id="integer")
    missing = statement(source_engine, "select nothing from item", name="missing")
    twice = statement(source_engine, "select id, label, id from item", name="twice")
    async with reached(database.settings(), [good, missing, twice]) as source:
        assert [column.name for column in source.shapes["good"]] == ["id", "label"]
        assert {name: error.code for name, error in source.broken.items()} == {
            "missing": Code.STATEMENT_INVALID,
            "twice": Code.STATEMENT_INVALID,
        }
        assert "nothing" in source.broken["missing"].detail
        assert "nothing" not in source.broken["missing"].message
        assert "'id'" in source.broken["twice"].detail.lower()


async def test_progress_has_three_stages_at_least(database: Database) -> None:
    lines: list[str] = []
    async with reached(database.settings()) as source:
        item = statement(source.engine, database.series, n="integer")
        asked = call(report=lines.append)
        async with source.lease(asked) as session:
            await session.run(item, [1200], 1500, asked)
    assert lines[:2] == ["waiting for a connection", "running"]
    counts = [int(line.split()[0]) for line in lines[2:]]
    assert counts == sorted(counts)
    assert counts[-1] == 1200
    assert all("rows read after" in line for line in lines[2:])
    assert len(lines) >= 4


async def test_a_statement_that_outruns_its_limit_is_stopped(database: Database) -> None:
    async with reached(database.settings(statement_timeout="200ms", pool={"min": 1, "max": 1})) as source:
        endless = statement(source.engine, database.endless, name="endless")
        item = statement(source.engine, database.typed, id="integer")
        started = time.monotonic()
        with pytest.raises(ToolError) as caught:
            await run(source, endless)
        assert caught.value.code is Code.STATEMENT_TIMEOUT
        assert time.monotonic() - started < 1.0
        assert [list(row) for row in (await run(source, item, 1)).rows] == [[1, "one"]]


async def test_the_calls_deadline_is_the_shorter_limit(database: Database) -> None:
    async with reached(database.settings()) as source:
        endless = statement(source.engine, database.endless)
        started = time.monotonic()
        with pytest.raises(ToolError) as caught:
            await run(source, endless, seconds=0.2)
    assert caught.value.code is Code.STATEMENT_TIMEOUT
    assert time.monotonic() - started < 1.5


async def test_a_read_only_source_cannot_write(database: Database) -> None:
    async with reached(database.settings()) as source:
        for text in ("delete from item", "insert into item values (9, 'nine')", "create table other (id integer)"):
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, text, name=text))
            assert caught.value.code in {Code.READ_ONLY, Code.ACCESS_DENIED}, text
        counted = await run(source, statement(source.engine, "select count(*) as n from item", name="count"))
    assert counted.rows[0][0] == 3


async def test_a_reading_tool_of_a_writable_source_cannot_write(database: Database) -> None:
    async with reached(database.settings(access="read-write")) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "delete from item"))
        assert caught.value.code is Code.READ_ONLY


async def test_a_write_commits_and_tells_how_many(database: Database) -> None:
    async with reached(database.settings(access="read-write")) as source:
        insert = statement(
            source.engine,
            "insert into item (id, label) values (:id, :label)",
            name="insert",
            writes=True,
            id="integer",
            label="string",
        )
        assert (await run(source, insert, 4, "four")).affected == 1
        update = statement(source.engine, "update item set label = upper(label)", name="update", writes=True)
        assert (await run(source, update)).affected == 4
        delete = statement(source.engine, "delete from item where id > 2", name="delete", writes=True)
        assert (await run(source, delete)).affected == 2
        left = await run(source, statement(source.engine, "select count(*) as n from item", name="count"))
        assert left.rows[0][0] == 2


async def test_a_write_gives_back_rows(database: Database) -> None:
    if database.name == "oracle":
        pytest.skip("Oracle returns a write's rows into variables only")
    async with reached(database.settings(access="read-write")) as source:
        text = "delete from item where id > 1 returning id, label"
        gone = await run(source, statement(source.engine, text, writes=True), max_rows=1)
        assert gone.affected == 2
        assert gone.is_truncated
        assert [list(row) for row in gone.rows] == [[2, "two"]]


async def test_a_broken_rule_undoes_the_write(database: Database) -> None:
    async with reached(database.settings(access="read-write", pool={"min": 1, "max": 1})) as source:
        insert = statement(
            source.engine, "insert into item (id, label) values (7, 'seven'), (8, 'one')", name="insert", writes=True
        )
        with pytest.raises(ToolError) as caught:
            await run(source, insert)
        assert caught.value.code is Code.CONSTRAINT_VIOLATION
        assert "one" not in caught.value.message.split()
        left = await run(source, statement(source.engine, "select count(*) as n from item", name="count"))
        assert left.rows[0][0] == 3


async def test_a_cancelled_write_is_undone(database: Database) -> None:
    async with reached(database.settings(access="read-write", pool={"min": 1, "max": 1})) as source:
        slow = statement(
            source.engine,
            f"insert into item (id, label) select 9, cast(n as char(20)) from ({database.endless}) e",
            writes=True,
        )
        task = asyncio.create_task(run(source, slow))
        await until(lambda: source.stats.active == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = await run(source, statement(source.engine, "select count(*) as n from item", name="count"))
        assert left.rows[0][0] == 3


async def test_a_refused_value_is_no_fault_of_the_statement(database: Database) -> None:
    async with reached(database.settings()) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, database.breaks, n="integer"), 1)
        assert caught.value.code is Code.INVALID_VALUE


async def test_a_number_that_fits_no_column_names_its_parameter(database: Database) -> None:
    async with reached(database.settings()) as source:
        item = statement(source.engine, database.typed, id="integer")
        with pytest.raises(ToolError) as caught:
            await run(source, item, 1 << 250)
        assert caught.value.code is Code.INVALID_VALUE
        assert "id" in caught.value.message


async def test_columns_are_learned_anew_when_the_table_changes(database: Database) -> None:
    async with reached(database.settings(access="read-write")) as source:
        everything = statement(source.engine, "select * from item where id = :id", name="everything", id="integer")
        assert len((await run(source, everything, 1)).columns) == 2
        alter = statement(source.engine, "alter table item add extra varchar(10)", name="alter", writes=True)
        await run(source, alter)
        for _ in range(4):
            table = await run(source, everything, 1)
            assert [column.name.lower() for column in table.columns] == ["id", "label", "extra"]
            assert list(table.rows[0]) == [1, "one", None]
        assert [column.name.lower() for column in source.shapes["everything"]] == ["id", "label", "extra"]


async def test_random_cancellation_leaks_nothing(database: Database, tally: Tally) -> None:
    dice = random.Random(2)
    rounds = ROUNDS * 10
    before = asyncio.all_tasks()
    pool = {"min": 1, "max": 4, "acquire_timeout": "10s", "max_waiting": 1000}
    outcomes = {"done": 0, "cancelled": 0}
    async with reached(database.settings(pool=pool)) as source:
        item = statement(source.engine, database.series, name="series", n="integer")
        endless = statement(source.engine, database.endless, name="endless")

        async def one() -> None:
            is_endless = dice.random() < 0.2
            work = run(source, endless) if is_endless else run(source, item, dice.randrange(2000), max_rows=1000)
            task = asyncio.create_task(work)
            if is_endless or dice.random() < 0.6:
                await asyncio.sleep(dice.random() ** 3 * 0.02)
                task.cancel()
            try:
                await task
                outcomes["done"] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1

        async def many(count: int) -> None:
            for _ in range(count):
                await one()

        await asyncio.gather(*(many(rounds // 10) for _ in range(10)))
        await settled(source)
        stats = source.stats
        assert (stats.active, stats.opening, stats.waiting) == (0, 0, 0)
        assert 1 <= stats.idle <= 4
        assert [list(row) for row in (await run(source, item, 1)).rows] == [[1]]
    assert outcomes["cancelled"] > rounds / 5
    assert sum(outcomes.values()) == rounds
    await until(lambda: asyncio.all_tasks() <= before)
    tally(f"{database.name}: {rounds} rounds, {outcomes}")


async def settled(source: Source) -> None:
    await until(lambda: source.stats.active == source.stats.opening == 0)
