"""PostgreSQL that is killed, stopped, frozen, absent; and callers that leave at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from gateway.database.engine import Statement
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.support import ROUNDS, call, reached, run, started, statement, until
from tests.servers.postgresql import PostgresqlServer
from tests.tally import Tally

ACTIVITY = "select count(*) from pg_stat_activity where application_name = $1"


async def sessions(admin: Any, name: str, where: str = "true") -> int:
    return int(await admin.fetchval(f"{ACTIVITY} and {where}", f"mcp-database-gateway/{name}"))


async def until_true(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a condition in another process has no event
            await asyncio.sleep(0.01)


async def one(source: Source) -> int:
    rows = (await run(source, statement(source.engine, "select 1 as n", name="one"))).rows
    return int(rows[0][0])


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_caller_who_leaves_stops_the_query(postgresql: PostgresqlServer, how: str) -> None:
    admin = await postgresql.admin()
    async with reached(postgresql.settings(pool={"min": 1, "max": 1}), name=how) as source:
        slow = statement(source.engine, "select count(*) as n from (select generate_series(1, 1000000000000)) a")
        task = asyncio.create_task(run(source, slow, seconds=0.5 if how == "deadline" else 30))

        async def is_running() -> bool:
            return await sessions(admin, how, "state = 'active' and query like '%1000000000000%'") == 1

        await until_true(is_running)
        if how == "cancel":
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = time.monotonic()

        async def is_quiet() -> bool:
            return await sessions(admin, how, "state <> 'idle'") == 0

        await until_true(is_quiet)
        assert time.monotonic() - left < 1.0
        assert await one(source) == 1
        assert await sessions(admin, how) == 1
    await admin.close()


async def test_a_write_is_not_refused_for_a_statement_that_was_only_prepared(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    await admin.execute("drop table if exists noted; create table noted (n integer)")
    async with reached(postgresql.settings(access="read-write", pool={"min": 1, "max": 1})) as source:
        write = statement(source.engine, "insert into noted values (:n)", name="note", writes=True, n="integer")
        for number in range(2):
            await run(source, write, number)
        for _ in range(3):  # at last in one round trip, which leaves nothing to be undone
            assert await one(source) == 1
        date = statement(source.engine, "select cast(:day as date) as day", name="date", day="string")
        with pytest.raises(ToolError, match="day"):
            await run(source, date, "yesterday")  # found after the server has parsed it
        assert (await run(source, write, 2)).affected == 1
    assert await admin.fetchval("select count(*) from noted") == 3
    await admin.execute("drop table noted")
    await admin.close()


def fuzzed(source: Source) -> list[Statement]:
    """What the fuzzer runs: many rows, a long one, one that would leak its session's state, one that writes."""
    return [
        statement(source.engine, "select g from generate_series(1, 1000) g", name="rows"),
        statement(source.engine, "select pg_sleep(0.01) as n", name="sleep"),
        statement(
            source.engine,
            "select set_config('my.leak', 'x', false), pg_advisory_lock(:n)",
            name="lock",
            n="integer",
        ),
        statement(source.engine, "insert into written values (1), (1)", name="write", writes=True),
    ]


async def assert_clean(source: Source, admin: Any) -> None:
    """No lock is held, no write is half there, and no session carries what an earlier one set."""
    assert await admin.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0
    assert await admin.fetchval("select count(*) % 2 from written") == 0
    for _ in range(source.stats.idle):
        shown = await run(source, statement(source.engine, "select current_setting('my.leak', true) as v", name="v"))
        assert shown.rows[0][0] in {None, ""}


async def test_random_cancellation_leaves_the_server_clean(postgresql: PostgresqlServer, tally: Tally) -> None:
    """Thousands of rounds with GATEWAY_TEST_ROUNDS; some back ends are killed on the way."""
    dice = random.Random(7)
    admin = await postgresql.admin()
    await admin.execute("drop table if exists written; create table written (n int)")
    rounds, counts = ROUNDS * 10, {"done": 0, "cancelled": 0, "failed": 0, "killed": 0}
    before, failures = asyncio.all_tasks(), list[ToolError]()
    pool = {"min": 2, "max": 5, "acquire_timeout": "20s", "max_waiting": 1000}
    async with reached(postgresql.settings(access="read-write", pool=pool), name="fuzz") as source:
        items = fuzzed(source)

        async def worker(count: int) -> None:
            for _ in range(count):
                item = dice.choice(items)
                values = [dice.randrange(10**9)] if item.name == "lock" else []
                task = asyncio.create_task(run(source, item, *values, max_rows=1000))
                if dice.random() < 0.6:
                    await asyncio.sleep(dice.random() ** 3 * 0.015)
                    task.cancel()
                if dice.random() < 0.01:
                    counts["killed"] += 1
                    await postgresql_kill(dice, postgresql)
                try:
                    await task
                    counts["done"] += 1
                except asyncio.CancelledError:
                    counts["cancelled"] += 1
                except ToolError as error:
                    failures.append(error)
                    counts["failed"] += 1

        await asyncio.gather(*(worker(rounds // 10) for _ in range(10)))
        await until(lambda: source.stats.active == source.stats.opening == 0 and source.stats.idle >= 2)

        async def is_level() -> bool:
            quiet = await sessions(admin, "fuzz", "state = 'idle'")
            return quiet == await sessions(admin, "fuzz") == source.stats.idle

        await until_true(is_level)
        await assert_clean(source, admin)
    assert counts["cancelled"] > rounds / 10
    assert not [error.detail for error in failures if error.code not in {Code.CONNECTION_LOST, Code.OUTCOME_UNKNOWN}]

    async def is_gone() -> bool:
        return await sessions(admin, "fuzz") == 0

    await until_true(is_gone)
    await until(lambda: asyncio.all_tasks() <= before)
    await admin.close()
    tally(f"{rounds} rounds: {counts}")


async def postgresql_kill(dice: random.Random, server: PostgresqlServer) -> None:
    """End one of the fuzzer's back ends."""
    admin = await server.admin()
    pids = await admin.fetch("select pid from pg_stat_activity where application_name = 'mcp-database-gateway/fuzz'")
    if pids:
        await admin.fetchval("select pg_terminate_backend($1)", dice.choice(pids)["pid"])
    await admin.close()


async def test_a_terminated_back_end_heals(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    async with reached(postgresql.settings(pool={"min": 2, "max": 3}), name="heal") as source:
        await until(lambda: source.stats.idle == 2)
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'mcp-database-gateway/heal'"
        )

        async def is_healed() -> bool:
            return await sessions(admin, "heal") == 2

        await until_true(is_healed)
        assert await one(source) == 1
    await admin.close()


async def test_a_back_end_that_dies_in_mid_run_is_told_and_replaced(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    async with reached(postgresql.settings(access="read-write", pool={"min": 1, "max": 1}), name="mid") as source:
        for writes, code in ((False, Code.CONNECTION_LOST), (True, Code.OUTCOME_UNKNOWN)):
            item = statement(source.engine, "select pg_sleep(30) as n", name=f"sleep{writes}", writes=writes)
            task = asyncio.create_task(run(source, item))

            async def is_sleeping() -> bool:
                return await sessions(admin, "mid", "query like '%pg_sleep%' and state = 'active'") == 1

            await until_true(is_sleeping)
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'mcp-database-gateway/mid'"
            )
            with pytest.raises(ToolError) as caught:
                await task
            assert caught.value.code is code
            assert caught.value.is_sent
            assert await one(source) == 1
    await admin.close()


async def test_a_killed_back_end_and_its_restarting_server_heal(own_postgresql: PostgresqlServer) -> None:
    async with reached(own_postgresql.settings(pool={"min": 2, "max": 3})) as source:
        pid = (await run(source, statement(source.engine, "select pg_backend_pid() as pid"))).rows[0][0]
        codes: set[Code] = set()
        os.kill(pid, signal.SIGKILL)  # the postmaster then ends every session and recovers

        async def answers() -> bool:
            try:
                return await one(source) == 1
            except ToolError as error:
                codes.add(error.code)
                return False

        await until_true(answers)
        await until(lambda: source.stats.idle == 2)
        assert codes <= {Code.CONNECTION_LOST, Code.SOURCE_UNAVAILABLE}


async def test_a_server_that_stops_and_comes_back(own_postgresql: PostgresqlServer) -> None:
    async with reached(own_postgresql.settings(pool={"min": 2, "max": 3})) as source:
        own_postgresql.stop()
        await until(lambda: not source.is_up)
        assert "source_unavailable" in source.trouble
        await until(lambda: source.breaker == "open")
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(ToolError) as caught:
                await one(source)
            assert caught.value.code is Code.SOURCE_UNAVAILABLE
            assert caught.value.retry_after is None or caught.value.retry_after <= 5.0
            assert not caught.value.is_sent
            assert own_postgresql.host not in caught.value.message
        assert time.monotonic() - began < 1.0
        own_postgresql.start()
        await until(lambda: source.is_up)
        assert (source.trouble, source.breaker) == ("", "closed")
        assert await one(source) == 1
        await until(lambda: source.stats.idle == 2)


async def test_a_source_that_is_down_at_the_start(own_postgresql: PostgresqlServer) -> None:
    own_postgresql.stop()
    async with started(own_postgresql.settings()) as source:
        engine = source.engine
    item = statement(engine, "select 1 as n", name="later")
    async with started(own_postgresql.settings(), [item]) as source:
        await until(lambda: source.trouble.startswith("source_unavailable"))
        assert source.shapes == {}
        with pytest.raises(ToolError) as caught:
            await run(source, item)
        assert caught.value.code is Code.SOURCE_UNAVAILABLE
        own_postgresql.start()
        await until(lambda: "later" in source.shapes)
        assert [list(row) for row in (await run(source, item)).rows] == [[1]]


async def test_a_frozen_server_holds_nobody_past_a_limit(own_postgresql: PostgresqlServer) -> None:
    settings = own_postgresql.settings(
        statement_timeout="300ms",
        connect_timeout="400ms",
        pool={"min": 1, "max": 2, "acquire_timeout": "600ms", "max_waiting": 50},
    )
    async with reached(settings) as source:
        assert await one(source) == 1
        await until(lambda: source.stats.idle == 1)
        own_postgresql.signal_all(signal.SIGSTOP)
        try:
            longest = 0.0
            codes: set[Code] = set()

            async def try_it() -> None:
                nonlocal longest
                began = time.monotonic()
                try:
                    await one(source)
                except ToolError as error:
                    codes.add(error.code)
                longest = max(longest, time.monotonic() - began)

            for _ in range(4):
                await asyncio.gather(*(try_it() for _ in range(8)))
            assert longest < 0.3 + 0.6 + 0.4, longest
            assert codes <= {Code.STATEMENT_TIMEOUT, Code.CONNECT_TIMEOUT, Code.POOL_TIMEOUT}
            assert Code.STATEMENT_TIMEOUT in codes
        finally:
            own_postgresql.signal_all(signal.SIGCONT)

        async def answers() -> bool:
            try:
                return await one(source) == 1
            except ToolError:
                return False

        await until_true(answers)
        await until(lambda: source.stats.active == 0)


async def test_closing_over_a_frozen_server_is_bounded(own_postgresql: PostgresqlServer) -> None:
    async with reached(own_postgresql.settings(pool={"min": 2, "max": 2})) as source:
        await until(lambda: source.stats.idle == 2)
        own_postgresql.signal_all(signal.SIGSTOP)
        began = time.monotonic()
        await source.pools.close()
        took = time.monotonic() - began
        own_postgresql.signal_all(signal.SIGCONT)
    assert took < 6.0


async def test_wrong_credentials_are_named_and_not_hammered(postgresql: PostgresqlServer) -> None:
    async with started(postgresql.settings(password="wrong")) as source:
        await until(lambda: source.trouble.startswith("login_failed"))
        with pytest.raises(ToolError) as caught:
            await one(source)
        assert caught.value.code is Code.LOGIN_FAILED
        assert postgresql.user not in caught.value.message
        assert "wrong" not in caught.value.detail


async def test_too_many_connections_is_unavailable_for_now(own_postgresql: PostgresqlServer) -> None:
    own_postgresql.stop()
    own_postgresql.options = ("-c max_connections=6 -c superuser_reserved_connections=0",)
    own_postgresql.start()
    pool = {"min": 0, "max": 20, "acquire_timeout": "2s"}
    async with reached(own_postgresql.settings(pool=pool)) as source:
        nap = statement(source.engine, "select pg_sleep(0.05) as n", name="nap")
        results = await asyncio.gather(*(run(source, nap) for _ in range(60)), return_exceptions=True)
        assert [result for result in results if isinstance(result, BaseException)] == []


async def test_session_state_never_reaches_the_next_caller(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    await admin.execute("drop sequence if exists counter; create sequence counter")
    async with reached(postgresql.settings(access="read-write", pool={"min": 1, "max": 1})) as source:
        for index, text in enumerate(
            (
                "select set_config('my.tenant', 'acme', false)",
                "select set_config('search_path', 'nowhere', false)",
                "select set_config('TimeZone', 'Asia/Tokyo', false), set_config('DateStyle', 'German', false) as s",
                "select set_config('statement_timeout', '1', false)",
                "select pg_advisory_lock(42)",
                "create temporary table leak (secret text)",
                "select nextval('counter')",
                "listen leak",
                "set session characteristics as transaction read write",
                "set role pg_monitor",
                "declare leak cursor with hold for select 1",
                "prepare leak as select 1",
            )
        ):
            await run(source, statement(source.engine, text, name=f"leak{index}", writes=True))
            probe = statement(
                source.engine,
                "select current_setting('my.tenant', true) as tenant, current_setting('search_path') as path,"
                " current_setting('TimeZone') as zone, current_setting('DateStyle') as style,"
                " (select count(*) from pg_locks where locktype = 'advisory') as locks,"
                " to_regclass('pg_temp.leak')::text as temporary,"
                " (select count(*) from pg_listening_channels()) as channels,"
                " (select count(*) from pg_cursors where is_holdable) as cursors, current_user::text as who,"
                " current_setting('default_transaction_read_only') as mode",
                name="probe",
            )
            row = (await run(source, probe)).rows[0]
            assert row[0] in {None, ""}, text
            assert list(row[1:]) == ['"$user", public', "UTC", "ISO, YMD", 0, None, 0, 0, "postgres", "on"], text
        with pytest.raises(ToolError):
            await run(source, statement(source.engine, "select lastval()", name="lastval"))
    await admin.close()


@pytest.mark.parametrize(
    "text",
    ["commit", "rollback", "select 1; insert into fence values (1)", "commit; insert into fence values (1)"],
)
async def test_no_statement_leaves_its_transaction(postgresql: PostgresqlServer, text: str) -> None:
    admin = await postgresql.admin()
    await admin.execute("drop table if exists fence; create table fence (n int)")
    async with reached(postgresql.settings(pool={"min": 1, "max": 1})) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, text))
        assert caught.value.code is Code.STATEMENT_INVALID
        for switch in ("set transaction read write", "select set_config('transaction_read_only', 'off', false)"):
            with suppress(ToolError):  # refused or useless: either is good
                await run(source, statement(source.engine, switch, name=switch))
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, "insert into fence values (1)", name="insert"))
            assert caught.value.code is Code.READ_ONLY
    assert await admin.fetchval("select count(*) from fence") == 0
    await admin.close()


async def test_a_changed_type_is_prepared_again_once(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    await admin.execute(
        "drop table if exists shifting; drop type if exists shape;"
        "create type shape as (a int); create table shifting (v int, s shape); insert into shifting values (1, row(1))"
    )
    async with reached(postgresql.settings(pool={"min": 1, "max": 1})) as source:
        item = statement(source.engine, "select * from shifting", name="shifting")
        assert [list(row) for row in (await run(source, item)).rows] == [[1, {"a": 1}]]
        await admin.execute("alter table shifting alter column v type text")
        assert [list(row) for row in (await run(source, item)).rows] == [["1", {"a": 1}]]
        await admin.execute("alter type shape add attribute b text")
        assert [list(row) for row in (await run(source, item)).rows] == [["1", {"a": 1, "b": None}]]
        await admin.execute("drop table shifting")
        with pytest.raises(ToolError) as caught:
            await run(source, item)
        assert caught.value.code is Code.STATEMENT_INVALID
    await admin.close()


async def test_errors_are_named_by_their_state(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    await admin.execute(
        "drop table if exists child, parent; create table parent (id int primary key, n int not null check (n > 0));"
        "create table child (id int references parent deferrable initially deferred);"
        "insert into parent values (1, 1); drop role if exists weak; create role weak login password 'weak'"
    )
    cases = [
        ("insert into parent values (1, 1)", Code.CONSTRAINT_VIOLATION, "parent_pkey"),
        ("insert into parent values (2, 0)", Code.CONSTRAINT_VIOLATION, "parent_n_check"),
        ("insert into child values (99)", Code.CONSTRAINT_VIOLATION, "child_id_fkey"),
        ("select 1/0 as n", Code.INVALID_VALUE, ""),
        ("select 'x'::int as n", Code.STATEMENT_INVALID, ""),
        ("select cast(concat('x', 1) as int) as n", Code.INVALID_VALUE, ""),
        ("selec 1", Code.STATEMENT_INVALID, ""),
        ("do $$begin raise exception 'secret'; end$$", Code.INVALID_VALUE, ""),
        ("do $$begin raise exception using errcode = '40001'; end$$", Code.CONFLICT, ""),
        ("do $$begin raise exception using errcode = '40P01'; end$$", Code.CONFLICT, ""),
        ("do $$begin raise exception using errcode = '55P03'; end$$", Code.CONFLICT, ""),
        ("do $$begin raise exception using errcode = '53100'; end$$", Code.SOURCE_UNAVAILABLE, ""),
        ("do $$begin raise exception using errcode = 'ZZ999'; end$$", Code.INTERNAL, ""),
    ]
    async with reached(postgresql.settings(access="read-write")) as source:
        for text, code, rule in cases:
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, text, name=text, writes=True))
            if text != "select 'x'::int as n":
                assert caught.value.code is code, (text, caught.value.detail)
            assert rule in caught.value.message
            assert "secret" not in caught.value.message
    async with reached(postgresql.settings(user="weak", password="weak")) as source:
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "select * from parent"))
        assert caught.value.code is Code.ACCESS_DENIED
    await admin.close()


async def test_the_position_of_a_mistake_is_in_the_detail(postgresql: PostgresqlServer) -> None:
    async with reached(postgresql.settings()) as source:
        asked = call()
        with pytest.raises(ToolError) as caught:
            async with source.lease(asked) as session:
                await session.describe(statement(source.engine, "select nothing from pg_class"))
    assert "position: 8" in caught.value.detail
    assert "42703" in caught.value.detail
