"""Oracle itself, in its own SQL: collected only where a container engine answers, beside the contract suite."""

from __future__ import annotations

import array
import asyncio
from decimal import Decimal
from typing import Any

import oracledb
import pytest

from gateway.cli.doctor import oracle as doctor
from gateway.cli.doctor import sources as doctor_sources
from gateway.context import Call, Principal
from gateway.database.engine import Json, Kind, Output, Statement
from gateway.database.sources import build_engine
from gateway.errors import Code, ToolError
from tests.database.conftest import oracle_itself
from tests.database.support import call, reached, run, statement
from tests.servers.oracle.container import OracleContainer

pytestmark = pytest.mark.timeout(900)

N38 = "9" * 38

# Expression, name, kind, value.
TABLE: list[tuple[str, str, Kind, Any]] = [
    (f"cast(-{N38} as number(38))", "number", Kind.INTEGER, -int(N38)),
    ("cast(12300 as number(5, -2))", "number", Kind.INTEGER, 12300),
    ("cast(-0.01 as number(10, 2))", "number", Kind.DECIMAL, Decimal("-0.01")),
    ("to_number('1E-130')", "number", Kind.DECIMAL, Decimal("1E-130")),
    ("cast(0.1 as binary_float)", "binary float", Kind.FLOAT, 0.1),
    ("cast(0.1 as binary_double)", "binary double", Kind.FLOAT, 0.1),
    ("cast('ü€😀' as varchar2(100))", "varchar2", Kind.TEXT, "ü€😀"),
    ("cast('a' as char(3))", "char", Kind.TEXT, "a  "),
    ("to_clob('short')", "clob", Kind.TEXT, "short"),
    ("to_blob(hextoraw('00FF'))", "blob", Kind.BYTES, b"\x00\xff"),
    ("hextoraw('00FF')", "raw", Kind.BYTES, b"\x00\xff"),
    ("date '2024-02-29'", "date", Kind.DATETIME, "2024-02-29T00:00:00"),
    ("interval '-1-2' year to month", "interval year to month", Kind.INTERVAL, "P-1Y-2M"),
    ("true", "boolean", Kind.BOOLEAN, True),
    ("json('{\"a\": 1.25}')", "json", Kind.JSON, Json('{"a":1.25}')),
    ("to_vector('[0.5, 2]', 2, float32)", "vector", Kind.ARRAY, [0.5, 2.0]),
]
ZONED: list[tuple[str, str, Kind, Any]] = [
    ("timestamp '2024-05-31 10:30:00.123456789'", "timestamp", Kind.DATETIME, "2024-05-31T10:30:00.123456789"),
    ("cast(timestamp '2024-05-31 10:30:00 +02:00' as timestamp(9) with local time zone)",
     "timestamp with local time zone", Kind.DATETIME, "2024-05-31T08:30:00+00:00"),
    ("timestamp '2024-05-31 10:30:00.12 +05:30'", "timestamp with time zone", Kind.DATETIME,
     "2024-05-31T10:30:00.120000+05:30"),
    ("timestamp '2024-07-01 10:30:00.000000001 Europe/Berlin'", "timestamp with time zone", Kind.DATETIME,
     "2024-07-01T10:30:00.000000001+02:00"),
    ("timestamp '2024-12-01 10:30:00 Europe/Berlin'", "timestamp with time zone", Kind.DATETIME,
     "2024-12-01T10:30:00+01:00"),
    ("cast(interval '-3 04:05:06.7' day to second as interval day(9) to second(9))", "interval day to second",
     Kind.INTERVAL, "P-3DT-4H-5M-6.7S"),
]  # fmt: skip


@pytest.mark.parametrize("entries", [TABLE, ZONED, TABLE + ZONED], ids=["types", "zones", "all"])
async def test_every_type_is_told_and_given_exactly(
    oracle_container: OracleContainer, entries: list[tuple[str, str, Kind, Any]]
) -> None:
    listed = ", ".join(f"{expression} as c{index}" for index, (expression, *_) in enumerate(entries))
    item = statement(build_engine(oracle_container.settings()), f"select {listed} from dual;", name="types")
    async with reached(oracle_container.settings(), [item]) as source:
        assert not source.broken, source.broken["types"].detail
        for _ in range(2):
            table = await run(source, item)
            assert [(each.type_name, each.kind) for each in table.columns] == [entry[1:3] for entry in entries]
            for value, entry in zip(table.rows[0], entries, strict=True):
                assert (list(value) if isinstance(value, array.array) else value) == entry[3], entry


async def test_what_the_driver_itself_makes_of_zones(oracle_container: OracleContainer) -> None:
    server = oracle_container
    raw = await oracledb.connect_async(
        user=server.user, password=server.password, host=server.host, port=server.port, service_name=server.service
    )
    (found,) = await raw.fetchone("select timestamp '2024-05-31 10:30:00 +05:30' from dual")
    assert found.tzinfo is None
    with pytest.raises(oracledb.Error, match="DPY-3022"):
        await raw.fetchone("select timestamp '2024-05-31 10:30:00 Europe/Berlin' from dual")
    await raw.close()


async def test_a_procedure_gives_values_and_rows(oracle_container: OracleContainer) -> None:
    await oracle_itself(oracle_container)
    await oracle_container.execute(
        "create or replace procedure count_items(at_least in number, how_many out number, items out sys_refcursor) as"
        " begin select count(*) into how_many from item where id >= at_least;"
        " open items for select id, label from item where id >= at_least order by id; end;"
    )
    text = "begin count_items(at_least => :P1, how_many => :O1, items => :O2); end;"
    outputs = (Output("how_many", "integer"), Output("items", "rows"))
    item = Statement("count", text, ("at_least",), ("integer",), True, outputs)
    async with reached(oracle_container.settings(access="read-write")) as source:
        for _ in range(2):
            rows = (await run(source, item, 2)).rows
            assert list(rows[0]) == [2, [{"ID": 2, "LABEL": "two"}, {"ID": 3, "LABEL": "three"}]]


async def test_the_caller_is_told(oracle_container: OracleContainer) -> None:
    names = ("client_identifier", "module", "action")
    told = " || '/' || ".join(f"sys_context('userenv', '{name}')" for name in names)
    settings = oracle_container.settings(session={"userenv.client_identifier": "subject"})
    principal = Principal("https://idp.test", "ada", "agent", frozenset())
    async with reached(settings, name="shop") as source:
        asked = Call("request-1", principal, asyncio.get_running_loop().time() + 20)
        item = statement(source.engine, f"select {told} as x from dual", name="who_am_i")
        async with source.lease(asked) as session:
            table = await session.run(item, [], 1, asked)
        assert table.rows[0][0] == "ada/mcp-database-gateway/shop/who_am_i"
        async with source._lend(call(), {}) as session:
            assert (await session.run(item, [], 1, call())).rows[0][0] == "/mcp-database-gateway/shop/who_am_i"


async def test_mistakes_and_refusals_are_named(oracle_container: OracleContainer) -> None:
    settings = oracle_container.settings()
    wrong = statement(build_engine(settings), "select id\nfrom   no_such_table", name="wrong")
    async with reached(settings, [wrong]) as source:
        assert "at line 2, column 8, near 'no_such_table'" in source.broken["wrong"].detail
        with pytest.raises(ToolError) as caught:
            await run(source, statement(source.engine, "select to_number('x') as n from dual"))
        assert caught.value.code is Code.INVALID_VALUE
    for overrides, code, part in (
        ({"password": "wrong"}, Code.LOGIN_FAILED, "ORA-01017"),
        ({"service": "NOWHERE"}, Code.SOURCE_UNAVAILABLE, "the listener knows no such service"),
    ):
        engine = build_engine(oracle_container.settings(**overrides))
        with pytest.raises(oracledb.DatabaseError) as raised:
            await engine.connect()
        error = engine.translate(raised.value)
        assert (error.code, part in error.detail) == (code, True), error.detail


async def test_what_check_and_doctor_ask_is_answered(oracle_container: OracleContainer) -> None:
    await oracle_itself(oracle_container)
    engine = build_engine(oracle_container.settings())
    connection: Any = await engine.connect()
    found = await connection.audit()
    assert "ITEM" in found.owns_tables
    for query in (Statement("query", doctor_sources._QUERIES["oracle"], (), ()), doctor.NLS):
        table = await connection.run(query, (), 1, lambda _: None)
        assert len(table.rows) == 1
        await connection.reset()
    assert doctor.nls_step(tuple(table.rows[0])).facts["session's time zone"] == "+00:00"
    connection.abort()
