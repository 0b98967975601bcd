"""The taxonomy for MySQL and MariaDB: by number, by SQLSTATE, and provoked on a real server."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from pymysql.err import InterfaceError, InternalError, OperationalError, ProgrammingError

from gateway.database.mysql_errors import code_of, translate
from gateway.database.sources import build_engine
from gateway.errors import Code, ToolError
from tests.database.support import reached, run, started, statement, until
from tests.servers.mariadb import MariadbServer

NUMBERS = [
    (1040, Code.SOURCE_UNAVAILABLE),  # too many connections
    (1045, Code.LOGIN_FAILED),
    (1044, Code.ACCESS_DENIED),
    (1053, Code.CONNECTION_LOST),  # shutdown
    (1062, Code.CONSTRAINT_VIOLATION),
    (1064, Code.STATEMENT_INVALID),
    (1114, Code.SOURCE_UNAVAILABLE),  # the table is full
    (1142, Code.ACCESS_DENIED),
    (1146, Code.STATEMENT_INVALID),
    (1203, Code.SOURCE_UNAVAILABLE),  # max_user_connections
    (1205, Code.CONFLICT),
    (1213, Code.CONFLICT),
    (1227, Code.ACCESS_DENIED),
    (1264, Code.INVALID_VALUE),
    (1290, Code.READ_ONLY),
    (1317, Code.STATEMENT_TIMEOUT),
    (1365, Code.INVALID_VALUE),
    (1451, Code.CONSTRAINT_VIOLATION),
    (1615, Code.CONFLICT),  # prepare again
    (1690, Code.INVALID_VALUE),
    (1792, Code.READ_ONLY),
    (1927, Code.CONNECTION_LOST),
    (1969, Code.STATEMENT_TIMEOUT),  # MariaDB's max_statement_time
    (3024, Code.STATEMENT_TIMEOUT),  # MySQL's max_execution_time
    (3819, Code.CONSTRAINT_VIOLATION),
    (4025, Code.CONSTRAINT_VIOLATION),
    (2003, Code.SOURCE_UNAVAILABLE),
    (2006, Code.CONNECTION_LOST),
    (2013, Code.CONNECTION_LOST),
]


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_numbers_have_their_codes(number: int, code: Code) -> None:
    named = translate(OperationalError(number, "secret words"))
    assert named.code is code
    assert "secret" not in named.message
    assert "secret" in named.detail
    assert named.is_sent == (code not in {Code.SOURCE_UNAVAILABLE, Code.LOGIN_FAILED})


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("23000", Code.CONSTRAINT_VIOLATION),
        ("22003", Code.INVALID_VALUE),
        ("42000", Code.STATEMENT_INVALID),
        ("40001", Code.CONFLICT),
        ("08S01", Code.CONNECTION_LOST),
        ("45000", Code.INVALID_VALUE),
        ("HY000", Code.INTERNAL),
        ("", Code.INTERNAL),
    ],
)
def test_unknown_numbers_go_by_their_state(state: str, code: Code) -> None:
    assert code_of(59999, state) is code


def tls_error() -> ssl.SSLError:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="db").do_handshake()
    return caught.value


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InterfaceError("(0, 'Not connected')"), Code.CONNECTION_LOST),
        (InternalError("Packet sequence number wrong"), Code.CONNECTION_LOST),
        (OperationalError("caching sha2: Unknown packet"), Code.LOGIN_FAILED),
        (ProgrammingError(), Code.LOGIN_FAILED),
        (ConnectionRefusedError("no"), Code.SOURCE_UNAVAILABLE),
        (chained(OperationalError(2003, "can't connect"), tls_error()), Code.SOURCE_UNAVAILABLE),
        (ZeroDivisionError(), Code.INTERNAL),
    ],
)
def test_what_the_driver_raises_itself_has_a_name(error: Exception, code: Code) -> None:
    assert translate(error).code is code


SCHEMA = [
    "drop table if exists child",
    "drop table if exists parent",
    "create table parent (id int primary key, n tinyint not null check (n > 0), e enum('a'), d date) engine=innodb",
    "create table child (id int, foreign key (id) references parent (id)) engine=innodb",
    "insert into parent values (1, 1, 'a', null), (2, 2, 'a', null)",
    "create or replace procedure shout() signal sqlstate '45000' set message_text = 'secret', mysql_errno = 31234",
]
PROVOKED = [
    ("insert into parent values (1, 1, 'a', null)", Code.CONSTRAINT_VIOLATION),
    ("insert into parent values (3, 0, 'a', null)", Code.CONSTRAINT_VIOLATION),
    ("insert into parent values (3, null, 'a', null)", Code.CONSTRAINT_VIOLATION),
    ("insert into child values (99)", Code.CONSTRAINT_VIOLATION),
    ("insert into parent values (3, 1000, 'a', null)", Code.INVALID_VALUE),
    ("insert into parent values (3, 'x', 'a', null)", Code.INVALID_VALUE),
    ("insert into parent values (3, 1, 'b', null)", Code.INVALID_VALUE),
    ("insert into parent values (3, 1, 'a', '2024-02-30')", Code.INVALID_VALUE),
    ("insert into parent values (3, 1 / 0, 'a', null)", Code.INVALID_VALUE),
    ("insert into parent values (3, 1)", Code.STATEMENT_INVALID),
    ("select (select id from parent) as n", Code.INVALID_VALUE),
    ("select 18446744073709551615 + 1 as n", Code.INVALID_VALUE),
    ("select nothing from parent", Code.STATEMENT_INVALID),
    ("select * from nowhere", Code.STATEMENT_INVALID),
    ("select * from nobase.nowhere", Code.STATEMENT_INVALID),
    ("select no_function(1) as n", Code.STATEMENT_INVALID),
    ("selec 1", Code.STATEMENT_INVALID),
    ("call shout()", Code.INVALID_VALUE),
]


async def test_mistakes_are_named_by_the_server(mariadb: MariadbServer) -> None:
    await mariadb.execute(*SCHEMA)
    async with reached(mariadb.settings(access="read-write")) as source:
        for text, code in PROVOKED:
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, text, name=text, writes=True))
            assert caught.value.code is code, (text, caught.value.detail)
            assert "secret" not in caught.value.message


async def test_an_account_without_rights_is_told(mariadb: MariadbServer) -> None:
    await mariadb.execute(
        *SCHEMA, "create or replace user weak@'%' identified by 'weak'", "grant select on tests.child to weak@'%'"
    )
    async with reached(mariadb.settings(user="weak", password="weak", access="read-write")) as source:
        for text in ("select * from parent", "insert into child values (1)", "select n from parent"):
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, text, name=text, writes=True))
            assert caught.value.code is Code.ACCESS_DENIED, (text, caught.value.detail)


@pytest.mark.parametrize(
    "overrides", [{"password": "wrong"}, {"user": "nobody"}, {"database": "nowhere"}, {"user": "bare", "password": "b"}]
)
async def test_a_refused_login_is_named_and_not_hammered(mariadb: MariadbServer, overrides: dict[str, Any]) -> None:
    await mariadb.execute("create or replace user bare@'%' identified by 'b'")
    async with started(mariadb.settings(**overrides)) as source:
        await until(lambda: source.trouble.startswith("login_failed"))
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "select 1 as n"))
        assert caught.value.code is Code.LOGIN_FAILED
        assert mariadb.user not in caught.value.message
        assert "wrong" not in caught.value.detail


async def test_locks_and_deadlocks_are_conflicts(mariadb: MariadbServer) -> None:
    await mariadb.execute(*SCHEMA)
    admin = await mariadb.admin()
    cursor = await admin.cursor()
    await admin.begin()
    await cursor.execute("update parent set n = 5 where id = 1")
    async with reached(mariadb.settings(access="read-write")) as source:
        wait = "set statement innodb_lock_wait_timeout = 1 for update parent set n = 6 where id = 1"
        for text in ("select id from parent where id = 1 for update nowait", wait):
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, text, name=text, writes=True))
            assert (caught.value.code, caught.value.is_retryable) == (Code.CONFLICT, True), caught.value.detail
        both = statement(
            source.engine, "update parent set n = n + 1 where id in (1, 2) order by id desc", name="both", writes=True
        )
        task = asyncio.create_task(run(source, both))
        waiting = (
            "select count(*) from information_schema.innodb_trx"
            " where trx_state = 'LOCK WAIT' and trx_query like '%n = n + 1%'"
        )
        async with asyncio.timeout(10):
            while (await mariadb.execute(waiting))[0][0] == 0:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.15)  # the view is refreshed for those who leave it alone for 100 ms
        # Ours has changed one row, the tests' transaction fifty: the server ends the smaller one.
        await cursor.execute("insert into child select 1 from seq_1_to_50")
        await cursor.execute("update parent set n = 7 where id = 2")
        with pytest.raises(ToolError) as caught:
            await task
        assert caught.value.code is Code.CONFLICT, caught.value.detail
    await admin.rollback()
    admin.close()


async def test_too_many_connections_is_unavailable(own_mariadb: MariadbServer) -> None:
    await own_mariadb.execute(
        "create user gateway@'%' identified by 'x'",
        "grant select on tests.* to gateway@'%' with max_user_connections 1",
    )
    engine = build_engine(own_mariadb.settings(user="gateway", password="x"), "many")
    first = await engine.connect()
    with pytest.raises((ToolError, OperationalError)) as caught:
        await engine.connect()
    assert engine.translate(caught.value).code is Code.SOURCE_UNAVAILABLE
    await first.close()


async def test_a_server_that_goes_is_told(own_mariadb: MariadbServer) -> None:
    engine = build_engine(own_mariadb.settings(), "gone")
    connection = await engine.connect()
    own_mariadb.stop()
    with pytest.raises(Exception, match=r"[Cc]onnection") as caught:
        await connection.ping()
    assert engine.translate(caught.value).code in {Code.CONNECTION_LOST, Code.SOURCE_UNAVAILABLE}
    with pytest.raises((ToolError, OperationalError)) as refused:
        await engine.connect()
    assert engine.translate(refused.value).code is Code.SOURCE_UNAVAILABLE
    connection.abort()
