"""What a pooler in transaction mode makes harder: shared sessions, settings, names, cancelling."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from gateway.errors import Code, ToolError
from tests.database.support import NOBODY, ROUNDS, call, reached, run, started, statement, until
from tests.servers.pgbouncer import PgbouncerServer
from tests.tally import Tally

SETTINGS = ("statement_timeout", "TimeZone", "jit", "transaction_read_only")


async def test_many_clients_share_few_sessions(pgbouncer: PgbouncerServer, tally: Tally) -> None:
    rounds = ROUNDS * 4
    async with reached(pgbouncer.settings(pool={"min": 10, "max": 10}), name="many") as source:
        await until(lambda: source.stats.idle == 10)
        items = [
            statement(source.engine, "select :n::int + 1 as sum, pg_backend_pid() as pid", name=f"t{i}", n="integer")
            for i in range(5)
        ]
        pids: set[int] = set()

        async def client(number: int) -> None:
            for turn in range(rounds // 10):
                table = await run(source, items[(number + turn) % 5], turn)
                assert table.rows[0][0] == turn + 1
                pids.add(table.rows[0][1])

        await asyncio.gather(*(client(number) for number in range(10)))
        assert 1 <= len(pids) <= pgbouncer.size
        left = await run(source, statement(source.engine, "select count(*) as n from pg_prepared_statements"))
        assert left.rows[0][0] <= 1, "the statement that counts is one itself"
    tally(f"{rounds} calls of 10 clients on {len(pids)} sessions")


async def test_settings_hold_in_the_call_and_are_gone_after_it(pgbouncer: PgbouncerServer) -> None:
    columns = ", ".join(f"current_setting('{name}') as {name.lower()}" for name in SETTINGS)
    async with reached(pgbouncer.settings(statement_timeout="7s"), name="local") as source:
        table = await run(source, statement(source.engine, f"select {columns}"))
        assert list(table.rows[0]) == ["8s", "UTC", "off", "on"]
        await until(lambda: source.stats.active == 0)
    admin = await pgbouncer.server.admin()
    plain = await admin.fetchrow(f"select {columns}")
    await admin.close()
    shared = await asyncpg.connect(
        host=pgbouncer.host,
        port=pgbouncer.port,
        user=pgbouncer.server.user,
        password=pgbouncer.server.password,
        database=pgbouncer.server.database,
        ssl=False,
        statement_cache_size=0,
    )
    async with shared.transaction():
        assert list(await shared.fetchrow(f"select {columns}")) == list(plain)
    await shared.close()


async def test_each_caller_has_a_name_of_its_own_and_leaves_none(pgbouncer: PgbouncerServer) -> None:
    settings = pgbouncer.settings(pool={"min": 8, "max": 8}, session={"app.user": "subject"})
    async with reached(settings, name="names") as source:
        item = statement(source.engine, "select current_setting('app.user', true) as who", name="who")

        async def client(subject: str) -> None:
            asked = replace(call(), principal=replace(NOBODY, subject=subject))
            for _ in range(ROUNDS // 2):
                async with source.lease(asked) as session:
                    assert (await session.run(item, [], 1, asked)).rows[0][0] == subject

        await asyncio.gather(*(client(f"user {number}") for number in range(8)))
    async with reached(pgbouncer.settings(), name="nameless") as source:
        for _ in range(10):
            assert not (await run(source, statement(source.engine, item.text))).rows[0][0]


async def test_a_cancelled_statement_stops_on_the_server(pgbouncer: PgbouncerServer) -> None:
    admin = await pgbouncer.server.admin()
    count = (
        "select count(*) from pg_stat_activity"
        " where state = 'active' and query like '%pg_sleep(61)%' and pid <> pg_backend_pid()"
    )
    async with reached(pgbouncer.settings(pool={"min": 1, "max": 2}), name="cancelled") as source:
        for _ in range(5):
            task = asyncio.create_task(run(source, statement(source.engine, "select pg_sleep(61)", name="sleep")))
            async with asyncio.timeout(10):
                while await admin.fetchval(count) != 1:
                    pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                while await admin.fetchval(count):
                    pass
        assert (await run(source, statement(source.engine, "select 1 as one"))).rows[0][0] == 1
    await admin.close()


async def test_types_that_must_be_looked_up(pgbouncer: PgbouncerServer) -> None:
    admin = await pgbouncer.server.admin()
    await admin.execute(
        "drop type if exists mood; create type mood as enum ('sad', 'glad');"
        "drop type if exists spot; create type spot as (x int, m mood)"
    )
    await admin.close()
    async with reached(pgbouncer.settings(pool={"min": 3, "max": 3}), name="types") as source:
        text = "select 'glad'::mood as m, array['sad'::mood] as a, row(1, 'sad')::spot as s where :n::int > 0"
        item = statement(source.engine, text, n="integer")
        for table in await asyncio.gather(*(run(source, item, 1) for _ in range(6))):
            assert list(table.rows[0])[:2] == ["glad", ["sad"]]


async def test_without_the_setting_the_pooler_refuses_and_the_operator_reads_why(pgbouncer: PgbouncerServer) -> None:
    async with started(pgbouncer.settings(pgbouncer=False)) as source:
        await until(lambda: "unsupported startup parameter" in source.trouble)
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "select 1 as one"))
        assert caught.value.code is Code.SOURCE_UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("select pg_advisory_lock(7)", False),
        ("select pg_try_advisory_lock_shared(7)", True),
        ("select set_config('app.name', 'x', false)", True),
        ("create temp table left_behind (n int)", True),
    ],
)
async def test_what_would_stay_in_the_session_is_refused(pgbouncer: PgbouncerServer, text: str, writes: bool) -> None:
    async with reached(pgbouncer.settings(access="read-write")) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, text, writes=writes))
        assert caught.value.code is Code.STATEMENT_INVALID
        local = statement(source.engine, "select set_config('app.name', 'x', true) as n", name="local", writes=True)
        assert (await run(source, local)).rows[0][0] == "x"
