"""How Oracle's connection behaves: transactions, identity, limits, cancellation, errors; against the stand-in."""

from __future__ import annotations

import asyncio
import importlib
import signal
import time
from typing import Any

import oracledb
import pytest

from gateway.config.sources import OracleSettings
from gateway.context import Call, Principal
from gateway.database import oracle_errors as errors
from gateway.database.sources import Source, build_engine
from gateway.errors import Code, ToolError
from tests.database.support import call, reached, run, statement, until
from tests.servers.oracle.dictionary import RESOURCES, VIEWS
from tests.servers.oracle.server import OracleServer

ONE = {"min": 1, "max": 1}
ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) as n from n"


async def value(source: Source, expression: str) -> Any:
    table = await run(source, statement(source.engine, f'select {expression} as "x"', name=expression[:20]))
    return table.rows[0][0]


async def identified(source: Source, expression: str, subject: str) -> Any:
    principal = Principal("https://idp.test", subject, "agent", frozenset())
    asked = Call("request-1", principal, asyncio.get_running_loop().time() + 20)
    item = statement(source.engine, f'select {expression} as "x"', name="who_am_i")
    async with source.lease(asked) as session:
        return (await session.run(item, [], 1, asked)).rows[0][0]


async def test_the_caller_rides_on_the_calls_own_round_trips(oracle: OracleServer) -> None:
    session = {"userenv.client_identifier": "subject", "userenv.client_info": "correlation_id"}
    names = ("client_identifier", "client_info", "module", "action")
    told = " || '/' || ".join(f"sys_context('userenv', '{name}')" for name in names)

    async def calls(settings: OracleSettings) -> int:
        async with reached(settings, name="shop") as source:
            first, *_, last = [await identified(source, "stand_in_calls()", "ada") for _ in range(4)]
            return int(last - first)

    async with reached(oracle.settings(pool=ONE, session=session), name="shop") as source:
        found = await identified(source, told, "ada")
    assert found == "ada/request-1/mcp-database-gateway/shop/who_am_i"
    assert await calls(oracle.settings(pool=ONE, session=session)) == await calls(oracle.settings(pool=ONE))


async def test_a_name_that_oracle_would_cut_off_is_refused(oracle: OracleServer) -> None:
    session = {"userenv.client_identifier": "subject"}
    async with reached(oracle.settings(pool=ONE, session=session)) as source:
        assert await identified(source, "sys_context('userenv', 'client_identifier')", "a" * 64) == "a" * 64
        with pytest.raises(ToolError) as caught:
            await identified(source, "1", "ü" * 33)
        assert caught.value.code is Code.ACCESS_DENIED
        async with source._lend(call(), {}) as lent:
            item = statement(source.engine, "select sys_context('userenv', 'client_identifier') as x")
            assert (await lent.run(item, [], 1, call())).rows[0][0] is None


async def test_contexts_cost_no_round_trip_of_their_own(oracle: OracleServer) -> None:
    async def calls(settings: OracleSettings) -> int:
        async with reached(settings) as source:
            first = await identified(source, "stand_in_calls()", "ada")
            async with source.lease(call()):  # until it was reset
                pass
            before = await identified(source, "stand_in_calls()", "ada")
            return int(before - first)

    told = await calls(oracle.settings(pool=ONE, session={"app.user": "subject"}))
    plain = await calls(oracle.settings(pool=ONE))
    assert told == plain


async def test_words_that_oracle_reserves_are_parameters_like_others(oracle: OracleServer) -> None:
    async with reached(oracle.settings()) as source:
        item = statement(
            source.engine, "select :date as a, :level as b, :date as c, :number as d", date="string", level="integer",
            number="number",
        )  # fmt: skip
        assert list((await run(source, item, "d", 1, 2)).rows[0]) == ["d", 1, "d", 2]


async def test_a_final_semicolon_does_no_harm(oracle: OracleServer) -> None:
    async with reached(oracle.settings(access="read-write")) as source:
        assert (await run(source, statement(source.engine, "select 1 as n;\n"))).rows
        for ending in ("\n/", "\n/*action='block'*/", "\n/\n/*action='block'*/"):
            block = statement(source.engine, f"begin null; end;{ending}", name="block", writes=True)
            assert (await run(source, block)).affected is None


async def test_a_definition_is_not_run_by_being_prepared(oracle: OracleServer) -> None:
    settings = oracle.settings(access="read-write")
    engine = build_engine(settings)
    define = statement(engine, "create table defined (id integer)", name="define", writes=True)
    await oracle.execute("drop table if exists defined")
    async with reached(settings, [define]) as source:
        assert source.shapes["define"] == ()
        await run(source, define)
        with pytest.raises(ToolError) as caught:
            await run(source, define)
        assert "already exists" in caught.value.detail
    await oracle.execute("drop table defined")


@pytest.mark.parametrize(
    ("text", "told", "place"),
    [
        (
            "select id,\n       label\nfrom   no_such_table\nwhere  id = :id",
            "ORA-00942: table or view does not exist: it may also be that the account",
            "at line 3, column 8, near 'no_such_table'",
        ),
        (
            "select :id\nfrom item\n  group having 1",
            "ORA-00900: invalid SQL statement",
            "at line 3, column 9, near 'having 1'",
        ),
    ],
)
async def test_a_mistake_is_named_with_its_place_when_it_is_prepared(
    oracle: OracleServer, text: str, told: str, place: str
) -> None:
    await oracle.execute("create table if not exists item (id integer, label varchar2(10))")
    wrong = statement(build_engine(oracle.settings()), text, name="wrong", id="integer")
    async with reached(oracle.settings(), [wrong]) as source:
        error = source.broken["wrong"]
        assert error.code is Code.STATEMENT_INVALID
        assert error.detail.startswith(told)
        assert place in error.detail
        assert "no_such_table" not in error.message


async def test_binds_that_the_driver_sees_otherwise_are_a_mistake(oracle: OracleServer) -> None:
    engine = build_engine(oracle.settings())
    odd = statement(engine, "select :P2 as x, :id as y", name="odd", id="integer")
    async with reached(oracle.settings(), [odd]) as source:
        assert "other bind variables" in source.broken["odd"].detail


async def test_lobs_together_stay_within_their_limit(oracle: OracleServer) -> None:
    await oracle.execute(
        "drop table if exists doc; create table doc (id integer, c clob, b blob);"
        "insert into doc values (1, printf('%.*c', 600, 'x'), zeroblob(300)), (2, 'ü', null)"
    )
    async with reached(oracle.settings(max_lob_bytes="902B")) as source:
        item = statement(source.engine, "select c, b from doc order by id")
        assert [list(row) for row in (await run(source, item)).rows] == [["x" * 600, bytes(300)], ["ü", None]]
    async with reached(oracle.settings(max_lob_bytes="901B", pool=ONE)) as source:
        with pytest.raises(ToolError, match="The column is C; ask for fewer rows") as caught:
            await run(source, item)
        assert caught.value.code is Code.UNREPRESENTABLE
        assert "max_lob_bytes" in caught.value.detail
        assert (await run(source, item, max_rows=1)).is_truncated


async def test_rows_are_fetched_in_one_round_trip_where_they_are_few(oracle: OracleServer) -> None:
    series = (
        "with recursive n(i) as (select 1 union all select i + 1 from n limit :n) select i, stand_in_calls() from n"
    )
    async with reached(oracle.settings(pool=ONE)) as source:
        item = statement(source.engine, series, n="integer")
        rows = (await run(source, item, 400, max_rows=400)).rows
        assert len({row[1] for row in rows}) == 1
        assert len((await run(source, item, 1200, max_rows=5000)).rows) == 1200


async def test_the_server_keeps_no_more_cursors_than_the_driver(oracle: OracleServer) -> None:
    """Servers admit 300 of them unless told otherwise (OPEN_CURSORS)."""
    async with reached(oracle.settings(pool=ONE)) as source:
        for number in range(130):
            assert await value(source, str(number)) == number
        assert 100 <= await value(source, "stand_in_cursors()") <= 110


async def test_a_frozen_server_costs_the_caller_its_limit_and_no_more(own_oracle: OracleServer) -> None:
    settings = own_oracle.settings(statement_timeout="300ms", pool=ONE)
    async with reached(settings) as source:
        await value(source, "1")
        await until(lambda: source.stats.idle == 1)
        own_oracle.signal_all(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(ToolError) as caught:
            await value(source, "1")
        assert caught.value.code is Code.STATEMENT_TIMEOUT
        assert time.monotonic() - started < 1
        await until(lambda: source.stats.active + source.stats.idle == 0)  # it does not answer the break either
        own_oracle.signal_all(signal.SIGCONT)
        await until(lambda: source.stats.idle == 1)
        assert await value(source, "1") == 1


async def test_the_drivers_own_limit_is_never_set(oracle: OracleServer) -> None:
    """It leaves a gap in which a connection that closes crashes the process (python-oracledb 4.0.2, Python 3.11)."""
    async with reached(oracle.settings(pool=ONE)) as source, source.lease(call()) as session:
        connection: Any = session._member.connection
        await session.run(statement(source.engine, "select 1 as n"), [], 1, call())
        assert connection._raw.call_timeout == 0


async def test_each_caller_gets_its_account_by_proxy(oracle: OracleServer) -> None:
    accounts = [
        {"when": {"scope": "hr"}, "user": "gateway[ada]", "password": oracle.password},
        {"when": {"claim": "unit", "equals": "sales"}, "user": "gateway[bob]", "password": oracle.password},
    ]

    async def who(source: Source, scopes: frozenset[str], claims: dict[str, str]) -> Any:
        principal = Principal("https://idp.test", "x", "agent", scopes, claims)
        asked = Call("r", principal, asyncio.get_running_loop().time() + 20)
        item = statement(source.engine, "select sys_context('userenv', 'session_user') as u")
        async with source.lease(asked) as session:
            return (await session.run(item, [], 1, asked)).rows[0][0]

    async with reached(oracle.settings(credentials=accounts)) as source:
        assert await who(source, frozenset({"hr"}), {}) == "ADA"
        assert await who(source, frozenset(), {"unit": "sales"}) == "BOB"
        with pytest.raises(ToolError) as caught:
            await who(source, frozenset(), {"unit": "other"})
        assert caught.value.code is Code.ACCESS_DENIED


async def test_a_break_stops_the_server_and_keeps_the_connection(oracle: OracleServer) -> None:
    async with reached(oracle.settings(pool=ONE)) as source:
        async with source.lease(call()) as session:
            connection = session._member.connection
        for _ in range(5):
            work = asyncio.create_task(run(source, statement(source.engine, ENDLESS, name="endless")))
            await until(lambda: source.stats.active == 1)
            await asyncio.sleep(0.02)
            work.cancel()
            await asyncio.wait({work})
            assert await value(source, "1") == 1
        async with source.lease(call()) as session:
            assert session._member.connection is connection


async def test_a_statement_that_was_broken_off_runs_again_with_its_binds(oracle: OracleServer) -> None:
    series = "with recursive n(i) as (select 1 union all select i + 1 from n where i < :n) select count(*) as n from n"
    async with reached(oracle.settings(pool={"min": 1, "max": 4, "max_per_client": 2})) as source:
        item = statement(source.engine, series, name="series", n="integer")
        assert (await run(source, item, 3)).rows[0][0] == 3
        async with source.lease(call()):  # so that the next is another connection's first, of a statement that is known
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await run(source, item, 1_000_000_000)
            assert (await run(source, item, 3)).rows[0][0] == 3


async def test_a_write_whose_connection_breaks_has_an_unknown_outcome(own_oracle: OracleServer) -> None:
    await own_oracle.execute("create table t (id integer)")
    async with reached(own_oracle.settings(access="read-write", pool=ONE)) as source:
        slow = statement(source.engine, "insert into t values (1 + sleep(5))", writes=True)
        work = asyncio.create_task(run(source, slow))
        await until(lambda: source.stats.active == 1)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own_oracle.stop)
        with pytest.raises(ToolError) as caught:
            await work
        assert caught.value.code is Code.OUTCOME_UNKNOWN


async def test_raised_errors_are_the_callers_and_their_text_is_withheld(oracle: OracleServer) -> None:
    async with reached(oracle.settings(access="read-write", pool=ONE)) as source:
        block = statement(
            source.engine, "begin raise_application_error(-20001, :what); end;", writes=True, what="string"
        )
        with pytest.raises(ToolError) as caught:
            await run(source, block, "s3cret")
        assert caught.value.code is Code.INVALID_VALUE
        assert "ORA-20001" in caught.value.detail
        assert "s3cret" not in caught.value.detail + caught.value.message


async def test_what_the_account_may_do_is_asked(own_oracle: OracleServer) -> None:
    await own_oracle.execute(
        f"{VIEWS} insert into user_resource_limits values ('SESSIONS_PER_USER', '40'), ('IDLE_TIME', 'UNLIMITED');"
        "update nls_database_parameters set value = 'WE8MSWIN1252' where parameter = 'NLS_CHARACTERSET'"
    )
    settings = own_oracle.settings()
    connection = await build_engine(settings).connect()
    found = await connection.audit()  # type: ignore[attr-defined]
    assert (found.can_write, found.owns_tables, found.bypasses_row_security) == ("", "", "")
    assert found.connection_limit == 40
    assert "WE8MSWIN1252" in found.notes[0]
    await own_oracle.execute(
        "insert into session_privs values ('EXEMPT ACCESS POLICY'), ('INSERT ANY TABLE');"
        "insert into user_tables values ('A'), ('B'), ('C'), ('D');"
        "update nls_database_parameters set value = 'AL32UTF8' where parameter = 'NLS_CHARACTERSET'"
    )
    found = await connection.audit()  # type: ignore[attr-defined]
    assert found.can_write == "it has INSERT ANY TABLE"
    assert found.bypasses_row_security == "it has EXEMPT ACCESS POLICY"
    assert found.owns_tables == "A, B, C and others"
    assert found.notes == ()
    await own_oracle.execute(
        f"{RESOURCES} update user_resource_limits set 'limit' = 'UNLIMITED' where resource_name = 'SESSIONS_PER_USER';"
        "update user_resource_limits set 'limit' = '5' where resource_name = 'IDLE_TIME';"
        "insert into user_resource_limits values ('CONNECT_TIME', '120')"
    )
    found = await connection.audit()  # type: ignore[attr-defined]
    assert found.connection_limit == 300
    assert found.notes == (
        "the account's profile ends sessions after 5 minutes (IDLE_TIME); set pool.idle_timeout below that",
    )
    connection.abort()


# Numbers


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (1, Code.CONSTRAINT_VIOLATION),
        (54, Code.CONFLICT),
        (60, Code.CONFLICT),
        (942, Code.STATEMENT_INVALID),
        (1013, Code.STATEMENT_TIMEOUT),
        (1017, Code.LOGIN_FAILED),
        (1031, Code.ACCESS_DENIED),
        (1456, Code.READ_ONLY),
        (1555, Code.CONFLICT),
        (1722, Code.INVALID_VALUE),
        (1843, Code.INVALID_VALUE),
        (2391, Code.SOURCE_UNAVAILABLE),
        (3113, Code.CONNECTION_LOST),
        (6550, Code.STATEMENT_INVALID),
        (12514, Code.SOURCE_UNAVAILABLE),
        (16000, Code.READ_ONLY),
        (20999, Code.INVALID_VALUE),
        (28001, Code.LOGIN_FAILED),
        (40441, Code.INVALID_VALUE),
        (600, Code.INTERNAL),
    ],
)
def test_numbers_have_names(number: int, code: Code) -> None:
    assert errors.code_of(number) is code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("DPY-4011: the database or network closed the connection", Code.CONNECTION_LOST),
        ("DPY-4024: call timeout of 5 ms exceeded", Code.STATEMENT_TIMEOUT),
        ("DPY-3022: named time zones are not supported in thin mode", Code.UNREPRESENTABLE),
        ("DPY-3015: password verifier type 0x939 is not supported", Code.LOGIN_FAILED),
        ("DPY-3001: Native Network Encryption is only supported in thick mode", Code.SOURCE_UNAVAILABLE),
        ("DPY-4010: a bind variable replacement value was not provided", Code.STATEMENT_INVALID),
        ("DPY-6000: Listener refused connection. (Similar to ORA-12518)", Code.SOURCE_UNAVAILABLE),
    ],
)
def test_the_drivers_own_numbers_have_names_too(text: str, code: Code) -> None:
    details = importlib.import_module("oracledb.errors")._Error(text)
    named = errors.translate(oracledb.DatabaseError(details))
    assert named.code is code
    assert text.partition(":")[0] in named.detail
