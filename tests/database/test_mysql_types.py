"""Every column type of MySQL and MariaDB, at its extremes, in exactly the value that goes out."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.database.engine import Json, Kind
from gateway.database.mysql_binding import encode
from gateway.database.mysql_leftovers import leaves_nothing
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.support import reached, run, statement
from tests.servers.mariadb import MariadbServer

BIG = 1 << 63

# Column type, SQL of a value, type name told, kind, value.
TABLE: list[tuple[str, str, str, Kind, Any]] = [
    ("tinyint", "-128", "tinyint", Kind.INTEGER, -128),
    ("tinyint unsigned", "255", "tinyint unsigned", Kind.INTEGER, 255),
    ("boolean", "true", "tinyint", Kind.INTEGER, 1),
    ("smallint", "-32768", "smallint", Kind.INTEGER, -32768),
    ("smallint unsigned", "65535", "smallint unsigned", Kind.INTEGER, 65535),
    ("mediumint", "-8388608", "mediumint", Kind.INTEGER, -8388608),
    ("mediumint unsigned", "16777215", "mediumint unsigned", Kind.INTEGER, 16777215),
    ("int", "-2147483648", "int", Kind.INTEGER, -2147483648),
    ("int unsigned", "4294967295", "int unsigned", Kind.INTEGER, 4294967295),
    ("int(5) zerofill", "42", "int unsigned", Kind.INTEGER, 42),
    ("bigint", "-9223372036854775808", "bigint", Kind.INTEGER, -BIG),
    ("bigint unsigned", "18446744073709551615", "bigint unsigned", Kind.INTEGER, 2 * BIG - 1),
    (
        "decimal(65,30)",
        "'-" + "9" * 35 + "." + "7" * 30 + "'",
        "decimal",
        Kind.DECIMAL,
        Decimal("-" + "9" * 35 + "." + "7" * 30),
    ),
    ("decimal(65,0)", "'" + "9" * 65 + "'", "decimal", Kind.DECIMAL, Decimal("9" * 65)),
    ("decimal(10,2)", "1.1", "decimal", Kind.DECIMAL, Decimal("1.10")),
    ("decimal(10,2)", "0", "decimal", Kind.DECIMAL, Decimal("0.00")),
    ("float", "0.1", "float", Kind.FLOAT, 0.1),
    ("float", "16777217", "float", Kind.FLOAT, 16777216.0),
    ("float", "-3.4028234e38", "float", Kind.FLOAT, -3.4028235e38),
    ("float", "1e-45", "float", Kind.FLOAT, 1e-45),
    ("double", "0.1", "double", Kind.FLOAT, 0.1),
    ("double", "1.7976931348623157e308", "double", Kind.FLOAT, 1.7976931348623157e308),
    ("bit(1)", "b'1'", "bit", Kind.INTEGER, 1),
    ("bit(64)", "b'" + "1" * 64 + "'", "bit", Kind.INTEGER, 2 * BIG - 1),
    ("date", "'9999-12-31'", "date", Kind.DATE, "9999-12-31"),
    ("date", "'0000-00-00'", "date", Kind.DATE, "0000-00-00"),
    ("date", "'2024-00-00'", "date", Kind.DATE, "2024-00-00"),
    ("datetime", "'1000-01-01 00:00:00'", "datetime", Kind.DATETIME, "1000-01-01T00:00:00"),
    ("datetime", "'0000-00-00 00:00:00'", "datetime", Kind.DATETIME, "0000-00-00T00:00:00"),
    ("datetime(6)", "'9999-12-31 23:59:59.999999'", "datetime", Kind.DATETIME, "9999-12-31T23:59:59.999999"),
    ("datetime(6)", "'2024-05-31 10:30:00'", "datetime", Kind.DATETIME, "2024-05-31T10:30:00.000000"),
    ("datetime(3)", "'2024-05-31 10:30:00.120'", "datetime", Kind.DATETIME, "2024-05-31T10:30:00.120"),
    ("timestamp null", "'1970-01-01 00:00:01'", "timestamp", Kind.DATETIME, "1970-01-01T00:00:01+00:00"),
    (
        "timestamp(6) null",
        "'2038-01-19 03:14:07.999999'",
        "timestamp",
        Kind.DATETIME,
        "2038-01-19T03:14:07.999999+00:00",
    ),
    ("time", "'838:59:59'", "time", Kind.TIME, "838:59:59"),
    ("time", "'-838:59:59'", "time", Kind.TIME, "-838:59:59"),
    ("time(6)", "'-00:00:00.000001'", "time", Kind.TIME, "-00:00:00.000001"),
    ("time", "'10:30:00'", "time", Kind.TIME, "10:30:00"),
    ("time", "'00:00:00'", "time", Kind.TIME, "00:00:00"),
    ("year", "2155", "year", Kind.INTEGER, 2155),
    ("year", "0", "year", Kind.INTEGER, 0),
    ("char(3)", "'a'", "char", Kind.TEXT, "a"),
    ("varchar(100)", "'ü€😀'", "varchar", Kind.TEXT, "ü€😀"),
    ("varchar(100) character set latin1", "'ü'", "varchar", Kind.TEXT, "ü"),
    ("varchar(100)", "''", "varchar", Kind.TEXT, ""),
    ("tinytext", "'x'", "tinytext", Kind.TEXT, "x"),
    ("text", "repeat('€', 20000)", "text", Kind.TEXT, "€" * 20000),
    ("mediumtext", "repeat('x', 70000)", "mediumtext", Kind.TEXT, "x" * 70000),
    ("longtext", "repeat('x', 200000)", "longtext", Kind.TEXT, "x" * 200000),
    ("enum('a', 'b c')", "'b c'", "enum", Kind.TEXT, "b c"),
    ("set('a', 'b', 'c')", "'c,a'", "set", Kind.TEXT, "a,c"),
    ("set('a')", "''", "set", Kind.TEXT, ""),
    ("binary(3)", "x'00ff'", "binary", Kind.BYTES, b"\x00\xff\x00"),
    ("varbinary(10)", "x'00ff'", "varbinary", Kind.BYTES, b"\x00\xff"),
    ("tinyblob", "x'00'", "tinyblob", Kind.BYTES, b"\0"),
    ("blob", "x'ff'", "blob", Kind.BYTES, b"\xff"),
    ("mediumblob", "repeat(x'ff', 70000)", "mediumblob", Kind.BYTES, b"\xff" * 70000),
    ("longblob", "''", "longblob", Kind.BYTES, b""),
    ("json", '\'{"a": 1.10, "b": 12345678901234567890}\'', "json", Kind.JSON, '{"a": 1.10, "b": 12345678901234567890}'),
    ("json", "'null'", "json", Kind.JSON, "null"),
    ("uuid", "'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'", "uuid", Kind.UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("inet6", "'2001:db8::1'", "inet6", Kind.TEXT, "2001:db8::1"),
    ("inet4", "'10.0.0.1'", "inet4", Kind.TEXT, "10.0.0.1"),
    ("point", "ST_GeomFromText('POINT(1 -2.5)', 4326)", "point", Kind.BYTES, struct.pack("<BIdd", 1, 1, 1.0, -2.5)),
    (
        "geometry",
        "ST_GeomFromText('LINESTRING(0 0, 1 1)')",
        "geometry",
        Kind.BYTES,
        struct.pack("<BIIdddd", 1, 2, 2, 0, 0, 1, 1),
    ),
    ("polygon", "null", "polygon", Kind.BYTES, None),
]


@pytest.fixture
async def source(mariadb: MariadbServer) -> AsyncIterator[Source]:
    async with reached(mariadb.settings(pool={"min": 1, "max": 2})) as opened:
        yield opened


async def test_every_type_is_exact(mariadb: MariadbServer, source: Source) -> None:
    columns = ", ".join(f"c{index} {declared}" for index, (declared, *_) in enumerate(TABLE))
    values = ", ".join(sql for _, sql, *_ in TABLE)
    nulls = ", ".join("null" for _ in TABLE)
    await mariadb.execute(
        "set sql_mode = ''",
        "set time_zone = '+00:00'",
        "drop table if exists types",
        f"create table types (id int, {columns}) engine=myisam charset=utf8mb4",
        f"insert into types values (1, {values}), (2, {nulls})",
    )
    for index, (declared, sql, name, kind, expected) in enumerate(TABLE):
        item = statement(source.engine, f"select c{index} as value from types order by id", name=f"c{index}")
        table = await run(source, item)
        value = table.rows[0][0]
        assert (table.columns[0].kind, table.columns[0].type_name) == (kind, name), declared
        assert repr(value) == repr(expected), (declared, sql)
        assert type(value) is type(expected) or isinstance(value, Json), declared
        assert (kind is Kind.JSON) == isinstance(value, Json), declared
        assert table.rows[1][0] is None, declared


async def test_expressions_have_exact_types_too(source: Source) -> None:
    text = (
        "select 1 as a, 18446744073709551615 as b, 1.10 as c, 1e0 as d, null as e, 'x' as f, x'00' as g,"
        " cast('10:00' as time(3)) as h, json_object('k', 1) as i, timestamp'2024-01-01 00:00:00' as j, 1 = 1 as k"
    )
    rows = (await run(source, statement(source.engine, text))).rows
    assert repr(list(rows[0])) == repr(
        [1, 2 * BIG - 1, Decimal("1.10"), 1.0, None, "x", b"\0", "10:00:00.000", '{"k": 1}', "2024-01-01T00:00:00", 1]
    )


async def test_text_that_is_no_json_is_an_error_for_its_column(mariadb: MariadbServer, source: Source) -> None:
    await mariadb.execute(
        "drop table if exists loose",
        "create table loose (id int, doc json)",
        "set check_constraint_checks = 0",
        "insert into loose select seq, if(seq = 3, '{broken', '1') from seq_1_to_3000",
    )
    with pytest.raises(ToolError) as caught:
        await run(source, statement(source.engine, "select id, doc from loose order by id"))
    assert caught.value.code is Code.UNREPRESENTABLE
    assert "doc" in caught.value.message
    assert (await run(source, statement(source.engine, "select 1 as n", name="next"))).rows[0][0] == 1


VALUES: list[tuple[str, Any]] = [
    ("integer", 0),
    ("integer", -BIG),
    ("integer", 2 * BIG - 1),
    ("integer", 10**64),
    ("number", Decimal("0.1")),
    ("number", Decimal("-1E-30")),
    ("number", Decimal("1E+40")),
    ("number", 0.5),
    ("boolean", True),
    ("string", ""),
    ("string", "ü€😀 \\ ' \" \0 ; -- ?"),
    ("string", "x" * 70000),
    ("string", None),
]


@pytest.mark.parametrize(("kind", "value"), VALUES)
async def test_values_arrive_as_they_are(source: Source, kind: str, value: Any) -> None:
    table = await run(source, statement(source.engine, "select :v as value", v=kind), value)
    assert table.rows[0][0] == value


@given(value=st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(-(10**60), 10**60)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_value_goes_there_and_back(source: Source, value: str | int) -> None:
    kind = "string" if isinstance(value, str) else "integer"
    table = await run(source, statement(source.engine, "select :v as value", name=kind, v=kind), value)
    assert table.rows[0][0] == value


@given(value=st.decimals(allow_nan=False, allow_infinity=False, places=30, min_value=-(10**34), max_value=10**34))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_decimal_goes_there_and_back(source: Source, value: Decimal) -> None:
    item = statement(source.engine, "select cast(:v as decimal(65,30)) as value", v="number")
    assert (await run(source, item, value)).rows[0][0] == value


@pytest.mark.parametrize(
    "value",
    [10**65, -(10**65), Decimal("1E-31"), Decimal("1E+65"), Decimal("1E+999999"), Decimal("NaN"), "lone \ud800"],
)
async def test_a_value_that_no_column_holds_names_its_parameter(source: Source, value: Any) -> None:
    with pytest.raises(ToolError) as caught:
        await run(source, statement(source.engine, "select :amount as value", amount="number"), value)
    assert caught.value.code is Code.INVALID_VALUE
    assert "amount" in caught.value.message
    assert not caught.value.is_sent


def test_lists_and_objects_are_bound_as_json() -> None:
    text = '{"a":[1.10,"ü"]}'.encode()
    assert encode({"a": [Decimal("1.10"), "ü"]})[1] == bytes([len(text)]) + text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_singles_are_the_shortest_decimal_that_is_the_same(source: Source, value: float) -> None:
    item = statement(source.engine, "select cast(:v as float) as value", v="number")
    got = (await run(source, item, value)).rows[0][0]
    assert struct.pack("<f", got) == struct.pack("<f", value) or (got == value == 0 and math.copysign(1, got))
    assert len(repr(got)) <= len(repr(value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select id, count(*) from item where label = ? group by id", True),
        ("with a as (select 1) select * from a", True),
        ("select @v := 1", False),
        ("select get_lock('a', 1)", False),
        ("select `get_lock`('a', 1)", False),
        ("select id from item into @v", False),
        ("select my_function(1)", False),
        ("insert into item values (1)", False),
        ("create temporary table t (a int)", False),
    ],
)
def test_only_what_provably_leaves_nothing_spares_a_reset(text: str, expected: bool) -> None:
    assert leaves_nothing(text) is expected
