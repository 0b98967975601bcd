"""Nothing of a call reaches the next caller, and reads that provably leave nothing are not reset."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.database.postgresql_traces import Traces
from gateway.database.sources import Source
from tests.database.support import reached, run, statement, until
from tests.servers.postgresql import PostgresqlServer, running_postgresql

SCHEMA = """
drop schema if exists traces cascade;
create schema traces;
create table traces.plain (id int, "select me" text, lower text);
insert into traces.plain values (1, 'a', 'b');
create function traces.locks() returns int language sql as 'select 1 from pg_advisory_lock(77)';
create function traces.honest(text) returns text immutable language sql as 'select $1';
create function traces."odd name"(text) returns text language sql as 'select $1';
create function traces.whole(traces.plain) returns text language sql as 'select $1.lower';
create view traces.seen as select id, pg_try_advisory_lock(78) from traces.plain;
create view traces."odd view" as select pg_try_advisory_lock(79);
create domain traces.checked as int check (value > 0);
create table traces.guarded (id int);
alter table traces.guarded enable row level security;
create materialized view traces.kept as select 1 as id;
"""

TRACELESS = [
    "select 1",
    'select id, "select me", lower from traces.plain where id = $1::int',
    "select count(*), max(id), lower('A'), now(), current_user from traces.plain",
    "with a as (select generate_series(1, 3) as i) select sum(i) over (order by i) from a",
    "values (1), (2)",
    "table traces.plain",
    "(select 1) union all (select 2)",
    "select id::text, id = any(array[1, 2]), case when id > 1 then 'x' else 'y' end from traces.plain",
    "select id from traces.kept",
    "select pid, usename from pg_catalog.pg_stat_activity",
    "select table_name from information_schema.tables",
    "select current_setting('server_version'), to_char(now(), 'YYYY')",
]
LEAVING = [
    "select pg_advisory_lock(1)",
    "select PG_ADVISORY_LOCK (1)",
    'select "pg_advisory_lock"(1)',
    "select pg_catalog.pg_advisory_lock_shared(1)",
    "select set_config('a.b', 'c', false)",
    "select setseed(0.5)",
    "select random()",
    "select traces.locks()",
    "select traces.honest('a')",
    "select traces.\"odd name\"('a')",
    "select p.whole from traces.plain p",
    "select * from traces.seen",
    'select * from traces."odd view"',
    "select 1::traces.checked",
    "select * from traces.guarded",
    "select table_to_xml('traces.seen', true, true, '')",
    'select U&"pg_advisory_loc\\006b"(1)',
    "explain analyze select 1",
    "/* first */ select 1",
    "show work_mem",
]


@pytest.fixture
async def admin(postgresql: PostgresqlServer) -> AsyncIterator[Any]:
    connection = await postgresql.admin()
    try:
        await connection.execute(SCHEMA)
        yield connection
        await connection.execute("drop schema if exists traces cascade")
    finally:
        await connection.close()


@pytest.mark.parametrize("text", TRACELESS)
async def test_a_plain_read_leaves_nothing(admin: Any, text: str) -> None:
    traces = Traces()
    assert not traces.is_traceless(text)
    await traces.ask(admin, text)
    assert traces.is_traceless(text)
    traces.forget()
    assert not traces.is_traceless(text)


@pytest.mark.parametrize("text", LEAVING)
async def test_what_may_leave_something_is_reset(admin: Any, text: str) -> None:
    traces = Traces()
    await traces.ask(admin, text)
    assert not traces.is_traceless(text)


async def test_operators_and_casts_of_users_count(admin: Any) -> None:
    await admin.execute("create operator traces.~~~ (function = traces.honest, rightarg = text)")
    traces = Traces()
    await traces.ask(admin, "select 1")
    assert not traces.is_traceless("select 1")
    await admin.execute("drop operator traces.~~~ (none, text)")
    await traces.ask(admin, "select 1")
    assert not traces.is_traceless("select 1"), "an answer is believed for a while, not asked for each call"
    fresh = Traces()
    await fresh.ask(admin, "select 1")
    assert fresh.is_traceless("select 1")


LEFT = """
select (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
       coalesce(current_setting('left.behind', true), '') as setting,
       current_setting('work_mem') as memory,
       (select count(*) from pg_class where relpersistence = 't') as temporary
"""
LEAVERS = {
    "lock": "select pg_advisory_lock(4711)::text as x",
    "view": "select * from traces.seen",
    "function": "select traces.locks() as x",
    "setting": "select set_config('left.behind', 'me', false) as x",
    "memory": "select set_config('work_mem', '77MB', false) as x",
    "local": "select set_config('left.behind', 'me', true) as x",
}
WRITERS = {
    "temporary": "create temp table mine as select 1 as x",
    "writes_lock": "select pg_advisory_lock(4712)::text as x",
    "writes_setting": "select set_config('left.behind', 'me', false) as x",
}


async def test_nothing_reaches_the_next_caller(admin: Any, postgresql: PostgresqlServer) -> None:
    settings = postgresql.settings(access="read-write", pool={"min": 1, "max": 1})
    async with reached(settings) as source:
        left = statement(source.engine, LEFT, name="left")
        clean = list((await run(source, left)).rows[0])
        assert clean[0] == 0
        assert clean[1] == ""
        for name, text in [*LEAVERS.items(), *WRITERS.items(), *LEAVERS.items()]:
            leaver = statement(source.engine, text, name=name, writes=name in WRITERS)
            await run(source, leaver)
            await run(source, leaver)
            assert list((await run(source, left)).rows[0]) == clean, name


async def test_only_what_may_leave_something_is_reset() -> None:
    with running_postgresql("-c log_statement=all") as server:
        admin = await server.admin()
        await admin.execute(SCHEMA)
        await admin.close()
        log = server.folder / "log"

        def resets() -> int:
            return log.read_text().count("reset all")

        async def settled(source: Source) -> None:
            await until(lambda: source.stats.idle == 1)

        async with reached(server.settings(pool={"min": 1, "max": 1})) as source:
            plain = statement(source.engine, "select id from traces.plain where id = :id", name="plain", id="integer")
            lock = statement(source.engine, LEAVERS["lock"], name="lock")
            await run(source, plain, 1)
            await settled(source)
            assert resets() == 1, "the first time nobody knows"
            before = log.read_text().count("rollback")
            for _ in range(50):
                await run(source, plain, 1)
            await settled(source)
            assert resets() == 1
            assert log.read_text().count("rollback") == before, "nothing is left to roll back"
            for number in range(5):
                await run(source, lock)
                await run(source, plain, 1)
                await settled(source)
                assert resets() == 2 + number
