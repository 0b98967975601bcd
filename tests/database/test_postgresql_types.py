"""Every type of PostgreSQL, at its extremes, in exactly the value that goes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.database import postgresql_numeric as numeric
from gateway.database import postgresql_time as temporal
from gateway.database.engine import Json, Kind
from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.support import reached, run, statement
from tests.servers.postgresql import PostgresqlServer

BIG = 1 << 63

SCHEMA = """
drop schema if exists types cascade; create schema types; set search_path = types;
create type mood as enum ('sad', 'so so');
create domain positive as int check (value > 0);
create domain label as text;
create type part as (id int, at date, weight float4, span interval, data jsonb, key uuid, price numeric);
create type nested as (name text, parts part[], inner_part part);
create type spans as range (subtype = text);
"""

TABLE: list[tuple[str, Kind, Any]] = [
    ("true", Kind.BOOLEAN, True),
    ("null::bool", Kind.BOOLEAN, None),
    ("'-32768'::int2", Kind.INTEGER, -32768),
    ("'-2147483648'::int4", Kind.INTEGER, -2147483648),
    ("'9223372036854775807'::int8", Kind.INTEGER, BIG - 1),
    ("'-9223372036854775808'::int8", Kind.INTEGER, -BIG),
    ("4294967295::oid", Kind.INTEGER, 4294967295),
    ("'4294967295'::xid", Kind.INTEGER, 4294967295),
    ("'18446744073709551615'::xid8", Kind.INTEGER, 2 * BIG - 1),
    ("'7'::cid", Kind.INTEGER, 7),
    ("1.10::numeric", Kind.DECIMAL, Decimal("1.10")),
    ("'-0.000000000000000000000000000000000000001'::numeric", Kind.DECIMAL, Decimal("-1E-39")),
    ("(repeat('9', 1000) || '.' || repeat('7', 500))::numeric", Kind.DECIMAL, Decimal("9" * 1000 + "." + "7" * 500)),
    ("100000::numeric", Kind.DECIMAL, Decimal(100000)),
    ("0.00::numeric", Kind.DECIMAL, Decimal("0.00")),
    ("10000.0001::numeric", Kind.DECIMAL, Decimal("10000.0001")),
    ("('1' || repeat('0', 6000))::numeric", Kind.DECIMAL, Decimal("1" + "0" * 6000)),
    ("'NaN'::numeric", Kind.DECIMAL, Decimal("NaN")),
    ("'-Infinity'::numeric", Kind.DECIMAL, Decimal("-Infinity")),
    ("0.1::float4", Kind.FLOAT, 0.1),
    ("16777217::float4", Kind.FLOAT, 16777216.0),
    ("'3.4028235e38'::float4", Kind.FLOAT, 3.4028235e38),
    ("'1e-45'::float4", Kind.FLOAT, 1e-45),
    ("'Infinity'::float4", Kind.FLOAT, float("inf")),
    ("0.1::float8", Kind.FLOAT, 0.1),
    ("'1.7976931348623157e308'::float8", Kind.FLOAT, 1.7976931348623157e308),
    ("'-Infinity'::float8", Kind.FLOAT, float("-inf")),
    ("''::text", Kind.TEXT, ""),
    ("'ü€😀'::varchar(9)", Kind.TEXT, "ü€😀"),
    ("'a'::char(3)", Kind.TEXT, "a  "),
    ("'n'::name", Kind.TEXT, "n"),
    ("'r'::\"char\"", Kind.TEXT, "r"),
    ("''::\"char\"", Kind.TEXT, ""),
    ('null::"char"', Kind.TEXT, None),
    ("'so so'::types.mood", Kind.TEXT, "so so"),
    ("5::types.positive", Kind.INTEGER, 5),
    ("'x'::types.label", Kind.TEXT, "x"),
    (r"'\x00ff'::bytea", Kind.BYTES, b"\x00\xff"),
    ("'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", Kind.UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ('\'{"a": 1.10, "b": 12345678901234567890}\'::json', Kind.JSON, '{"a": 1.10, "b": 12345678901234567890}'),
    ("'{\"a\":1.10}'::jsonb", Kind.JSON, '{"a": 1.10}'),
    ("'null'::jsonb", Kind.JSON, "null"),
    ("null::jsonb", Kind.JSON, None),
    ("'2024-02-29'::date", Kind.DATE, "2024-02-29"),
    ("'4713-01-01 BC'::date", Kind.DATE, "-4712-01-01"),
    ("'44-03-15 BC'::date", Kind.DATE, "-0043-03-15"),
    ("'0001-12-31 BC'::date", Kind.DATE, "0000-12-31"),
    ("'5874897-12-31'::date", Kind.DATE, "+5874897-12-31"),
    ("'infinity'::date", Kind.DATE, "infinity"),
    ("'-infinity'::date", Kind.DATE, "-infinity"),
    ("'2024-05-31 10:30:00.120000'::timestamp", Kind.DATETIME, "2024-05-31T10:30:00.12"),
    ("'4713-01-01 00:00:00 BC'::timestamp", Kind.DATETIME, "-4712-01-01T00:00:00"),
    ("'294276-12-31 23:59:59.999999'::timestamp", Kind.DATETIME, "+294276-12-31T23:59:59.999999"),
    ("'infinity'::timestamp", Kind.DATETIME, "infinity"),
    ("'2024-05-31 10:30:00+05:30'::timestamptz", Kind.DATETIME, "2024-05-31T05:00:00+00:00"),
    ("'-infinity'::timestamptz", Kind.DATETIME, "-infinity"),
    ("'24:00:00'::time", Kind.TIME, "24:00:00"),
    ("'00:00:00.000001'::time", Kind.TIME, "00:00:00.000001"),
    ("'10:30:00+05:30'::timetz", Kind.TIME, "10:30:00+05:30"),
    ("'24:00:00-15:59:59'::timetz", Kind.TIME, "24:00:00-15:59:59"),
    ("'1 mon 3 days'::interval", Kind.INTERVAL, "P1M3D"),
    ("'-1 year -2 mons +3 days -04:05:06.789'::interval", Kind.INTERVAL, "P-1Y-2M3DT-4H-5M-6.789S"),
    ("'0'::interval", Kind.INTERVAL, "PT0S"),
    ("'10.0.0.1'::inet", Kind.TEXT, "10.0.0.1"),
    ("'10.0.0.1/8'::inet", Kind.TEXT, "10.0.0.1/8"),
    ("'10.0.0.0/8'::cidr", Kind.TEXT, "10.0.0.0/8"),
    ("'10.0.0.1/32'::cidr", Kind.TEXT, "10.0.0.1/32"),
    ("'::ffff:1.2.3.4'::inet", Kind.TEXT, "::ffff:1.2.3.4"),
    ("'2001:db8::/32'::cidr", Kind.TEXT, "2001:db8::/32"),
    ("'08:00:2b:01:02:03'::macaddr", Kind.TEXT, "08:00:2b:01:02:03"),
    ("'08:00:2b:01:02:03:04:05'::macaddr8", Kind.TEXT, "08:00:2b:01:02:03:04:05"),
    ("B'101'", Kind.TEXT, "101"),
    ("B'0000000011'::varbit", Kind.TEXT, "0000000011"),
    ("B''::varbit", Kind.TEXT, ""),
    ("'16/B374D848'::pg_lsn", Kind.TEXT, "16/B374D848"),
    ("'(42,7)'::tid", Kind.TEXT, "(42,7)"),
    ("'10:20:10,14'::pg_snapshot", Kind.TEXT, "10:20:10,14"),
    ("'pg_class'::regclass", Kind.TEXT, "pg_class"),
    ("'<a>1</a>'::xml", Kind.TEXT, "<a>1</a>"),
    ("'b a'::tsvector", Kind.TEXT, "'a' 'b'"),
    ("'a & b'::tsquery", Kind.TEXT, "'a' & 'b'"),
    ("'$.a[*]'::jsonpath", Kind.TEXT, '$."a"[*]'),
    ("'=r/postgres'::aclitem", Kind.TEXT, "=r/postgres"),
    ("'(1,2.5)'::point", Kind.TEXT, "(1,2.5)"),
    ("'(1e300,-0)'::point", Kind.TEXT, "(1e+300,-0)"),
    ("'{1,2,3}'::line", Kind.TEXT, "{1,2,3}"),
    ("'[(1,2),(3,4)]'::lseg", Kind.TEXT, "[(1,2),(3,4)]"),
    ("'(1,2),(3,4)'::box", Kind.TEXT, "(3,4),(1,2)"),
    ("'[(1,2),(3,4)]'::path", Kind.TEXT, "[(1,2),(3,4)]"),
    ("'((1,2),(3,4))'::path", Kind.TEXT, "((1,2),(3,4))"),
    ("'((1,2),(3,4),(5,6))'::polygon", Kind.TEXT, "((1,2),(3,4),(5,6))"),
    ("'<(1,2),3>'::circle", Kind.TEXT, "<(1,2),3>"),
    ("'[1,5]'::int4range", Kind.TEXT, "[1,6)"),
    ("'empty'::int4range", Kind.TEXT, "empty"),
    ("'(,)'::numrange", Kind.TEXT, "(,)"),
    ("'[1.10,)'::numrange", Kind.TEXT, "[1.10,)"),
    ("'[2024-01-01,infinity)'::daterange", Kind.TEXT, "[2024-01-01,infinity)"),
    ("'[2024-01-01 10:00,2024-01-02)'::tsrange", Kind.TEXT, "[2024-01-01T10:00:00,2024-01-02T00:00:00)"),
    ("types.spans('a b', 'c,\"d\\')", Kind.TEXT, '["a b","c,""d\\\\")'),
    ("types.spans('', null)", Kind.TEXT, '["",)'),
    ("'{[1,2),[5,9)}'::int4multirange", Kind.TEXT, "{[1,2),[5,9)}"),
    ("'{}'::int4multirange", Kind.TEXT, "{}"),
    ("null::int4multirange", Kind.TEXT, None),
    ("array['{[1,2)}'::int4multirange, '{}', null]", Kind.ARRAY, ["{[1,2)}", "{}", None]),
    ("array[1, null, 3]", Kind.ARRAY, [1, None, 3]),
    ("'{}'::int4[]", Kind.ARRAY, []),
    ("'{{1,2},{3,4}}'::int8[]", Kind.ARRAY, [[1, 2], [3, 4]]),
    ("'[0:1]={1,2}'::int4[]", Kind.ARRAY, [1, 2]),
    ("array['1.10'::numeric, 'NaN']", Kind.ARRAY, [Decimal("1.10"), Decimal("NaN")]),
    (
        "array['2024-01-01'::date, 'infinity', null]",
        Kind.ARRAY,
        ["2024-01-01", "infinity", None],
    ),
    ("array['{\"a\": 1}'::jsonb, '2']", Kind.ARRAY, [Json('{"a": 1}'), Json("2")]),
    ("array['so so'::types.mood]", Kind.ARRAY, ["so so"]),
    ("array[5::types.positive]", Kind.ARRAY, [5]),
    ("array['10.0.0.1/8'::inet]", Kind.ARRAY, ["10.0.0.1/8"]),
    ("array['(1,2),(3,4)'::box]", Kind.ARRAY, ["(3,4),(1,2)"]),
    ("array['[1,2)'::int4range]", Kind.ARRAY, ["[1,2)"]),
    ("array[B'101']", Kind.ARRAY, ["101"]),
    ("array[0.1::float4]", Kind.ARRAY, [0.1]),
    (r"array['\x00'::bytea]", Kind.ARRAY, [b"\x00"]),
    ("array['1 mon'::interval]", Kind.ARRAY, ["P1M"]),
    ("'1 2'::int2vector", Kind.ARRAY, [1, 2]),
    (
        "row(1, '2024-01-01', 0.1, '1 day', '{\"a\": 1.0}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1.10)::types.part",
        Kind.OBJECT,
        {
            "id": 1,
            "at": "2024-01-01",
            "weight": 0.1,
            "span": "P1D",
            "data": Json('{"a": 1.0}'),
            "key": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "price": Decimal("1.10"),
        },
    ),
    ("null::types.part", Kind.OBJECT, None),
    (
        "row('n', array[row(1, null, null, null, null, null, null)::types.part], null)::types.nested",
        Kind.OBJECT,
        {
            "name": "n",
            "parts": [{"id": 1} | dict.fromkeys(("at", "weight", "span", "data", "key", "price"))],
            "inner_part": None,
        },
    ),
    ("row(1, 'a', null::int)", Kind.ANY, [1, "a", None]),
    ("null", Kind.TEXT, None),
]


@pytest.fixture
async def source(postgresql: PostgresqlServer) -> AsyncIterator[Source]:
    admin = await postgresql.admin()
    await admin.execute(SCHEMA)
    await admin.close()
    async with reached(postgresql.settings(pool={"min": 1, "max": 2})) as opened:
        yield opened


async def test_every_type_is_exact(source: Source) -> None:
    for expression, kind, expected in TABLE:
        item = statement(source.engine, f"select {expression} as value", name=expression)
        table = await run(source, item)
        value = table.rows[0][0]
        assert table.columns[0].kind is kind, expression
        assert repr(value) == repr(expected), expression
        assert type(value) is type(expected) or isinstance(value, Json), expression
        assert (kind is Kind.JSON and value is not None) == isinstance(value, Json), expression


async def test_money_is_as_the_server_writes_it(source: Source) -> None:
    table = await run(source, statement(source.engine, "select '-12.50'::money as value"))
    assert table.rows[0][0] == "-$12.50"


async def test_elements_of_arrays_are_known(source: Source) -> None:
    item = statement(source.engine, "select array[1] as a, array['x'] as b, array['2024-01-01'::date] as c")
    assert [column.items for column in (await run(source, item)).columns] == [Kind.INTEGER, Kind.TEXT, Kind.DATE]


async def test_intervals_are_written_as_the_server_does(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    await admin.execute("set intervalstyle = iso_8601")
    await admin.set_type_codec(
        "interval", schema="pg_catalog", encoder=temporal.interval_binary, decoder=lambda raw: raw, format="tuple"
    )
    rows = await admin.fetch(
        "select i, i::text from (select make_interval(months => (random() * 400 - 200)::int,"
        " days => (random() * 400 - 200)::int, secs => case when random() < .2 then 0 else random() * 1e6 - 5e5 end) i"
        " from generate_series(1, 3000)) x"
    )
    for raw, expected in rows:
        assert temporal.interval_text(raw) == expected
        assert temporal.interval_binary(expected) == raw
    await admin.close()


async def test_dates_are_the_servers_dates(postgresql: PostgresqlServer) -> None:
    admin = await postgresql.admin()
    await admin.set_type_codec(
        "date", schema="pg_catalog", encoder=lambda raw: raw, decoder=lambda raw: raw, format="tuple"
    )
    rows = await admin.fetch(
        "select d, extract(year from d)::int y, extract(month from d)::int m, extract(day from d)::int a from"
        " (select '4713-01-01 BC'::date + (random() * 3000000)::int d from generate_series(1, 3000)) x"
    )
    for raw, year, month, day in rows:
        astronomical = year + 1 if year < 0 else year
        text = f"{'-' if astronomical < 0 else ''}{abs(astronomical):04d}-{month:02d}-{day:02d}"
        assert temporal.date_text(raw) == text
        assert temporal.date_binary(text) == raw
    await admin.close()


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_numerics_go_there_and_back(value: Decimal) -> None:
    value = Decimal("NaN") if value.is_nan() else value
    back = numeric.decode(numeric.encode(value))
    assert str(back) == str(value) or back == value
    if value.is_finite() and int(value.as_tuple().exponent) <= 0:
        assert back.as_tuple().exponent == value.as_tuple().exponent


@given(st.integers(-2451507, 2145031948))
def test_dates_go_there_and_back(days: int) -> None:
    assert temporal.date_binary(temporal.date_text((days,))) == (days,)


@given(st.integers(-211810204800000000, 9223371331199999999))
def test_moments_go_there_and_back(moment: int) -> None:
    assert temporal.timestamp_binary(temporal.timestamp_text((moment,))) == (moment,)
    assert temporal.timestamptz_binary(temporal.timestamptz_text((moment,))) == (moment,)


@given(
    st.integers(-(1 << 31) + 1, (1 << 31) - 1),
    st.integers(-(1 << 31) + 1, (1 << 31) - 1),
    st.integers(-BIG + 1, BIG - 1),
)
def test_intervals_go_there_and_back(months: int, days: int, microseconds: int) -> None:
    value = (months, days, microseconds)
    assert temporal.interval_binary(temporal.interval_text(value)) == value


@given(st.text())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_nonsense_is_a_value_error(text: str) -> None:
    for read in (
        temporal.date_binary,
        temporal.timestamp_binary,
        temporal.timestamptz_binary,
        temporal.time_binary,
        temporal.timetz_binary,
        temporal.interval_binary,
    ):
        try:
            read(text)
        except ValueError:
            continue
        assert text.strip()


BOUND: list[tuple[str, str, Any, Any]] = [
    ("int2", "integer", -32768, -32768),
    ("int8", "integer", BIG - 1, BIG - 1),
    ("int4", "number", Decimal("3.0"), 3),
    ("numeric", "number", Decimal("1.10"), Decimal("1.10")),
    ("numeric", "integer", 10**50, Decimal(10**50)),
    ("numeric", "number", Decimal("-0.00012300"), Decimal("-0.00012300")),
    ("numeric", "string", "1.10", Decimal("1.10")),
    ("float8", "integer", 3, 3.0),
    ("float8", "number", Decimal("0.1"), 0.1),
    ("float4", "number", 0.1, 0.1),
    ("bool", "boolean", False, False),
    ("text", "string", "x'; drop table item; --", "x'; drop table item; --"),
    ("varchar", "string", "ü", "ü"),
    ("types.mood", "string", "sad", "sad"),
    ("xml", "string", "<a/>", "<a/>"),
    ("uuid", "string", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("inet", "string", "10.0.0.1/8", "10.0.0.1/8"),
    ("cidr", "string", "10.0.0.0/8", "10.0.0.0/8"),
    ("macaddr", "string", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    ("varbit", "string", "0101", "0101"),
    ("bytea", "string", "AP8=", b"\x00\xff"),
    ("date", "string", "-0043-03-15", "-0043-03-15"),
    ("timestamp", "string", "2024-05-31T10:30:00.5", "2024-05-31T10:30:00.5"),
    ("timestamp", "string", "2024-05-31", "2024-05-31T00:00:00"),
    ("timestamptz", "string", "2024-05-31T10:30:00+05:30", "2024-05-31T05:00:00+00:00"),
    ("time", "string", "24:00:00", "24:00:00"),
    ("timetz", "string", "10:30:00+05:30", "10:30:00+05:30"),
    ("interval", "string", "P1M3DT-0.5S", "P1M3DT-0.5S"),
    (
        "json",
        "object",
        {"a": Decimal("1.10"), "b": [10**30, None]},
        '{"a":1.10,"b":[1000000000000000000000000000000,null]}',
    ),
    ("jsonb", "array", [1, "x", {"y": True}], '[1, "x", {"y": true}]'),
    ("jsonb", "string", "x", '"x"'),
    ("int4[]", "array", [1, None, 3], [1, None, 3]),
    ("int4[]", "array", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    ("text[]", "array", ["a", 'b"c'], ["a", 'b"c']),
    ("date[]", "array", ["2024-01-01"], ["2024-01-01"]),
    ("uuid[]", "array", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("numeric[]", "array", [1, Decimal("2.50")], [Decimal(1), Decimal("2.50")]),
    ("jsonb[]", "array", [{"a": 1}], [Json('{"a": 1}')]),
    ("types.mood[]", "array", ["sad"], ["sad"]),
]


@pytest.mark.parametrize(("server", "declared", "value", "expected"), BOUND)
async def test_values_go_in_exactly(source: Source, server: str, declared: str, value: Any, expected: Any) -> None:
    item = statement(source.engine, f"select (:p)::{server} as value", p=declared)
    rows = (await run(source, item, value)).rows
    assert repr(rows[0][0]) == repr(expected)
    assert (await run(source, item, None)).rows[0][0] is None


@pytest.mark.parametrize(
    ("server", "declared", "value"),
    [
        ("int2", "integer", 32768),
        ("int4", "integer", -2147483649),
        ("int8", "integer", BIG),
        ("int4", "number", Decimal("1.5")),
        ("oid", "integer", -1),
        ("float4", "number", 1e39),
        ("float8", "integer", 10**400),
        ("int4", "number", Decimal("1E+999999999")),
        ("numeric", "string", "one"),
        ("numeric", "number", Decimal("1E+200000")),
        ("text", "string", "a\0b"),
        ("text", "string", "\ud800"),
        ("uuid", "string", "not-one"),
        ("inet", "string", "300.0.0.1"),
        ("cidr", "string", "10.0.0.1/8"),
        ("bytea", "string", "%%%"),
        ("date", "string", "2023-02-29"),
        ("date", "string", "yesterday"),
        ("timestamp", "string", "2024-05-31T10:30:00+02:00"),
        ("timestamptz", "string", "2024-05-31T10:30:00"),
        ("time", "string", "25:00:00"),
        ("interval", "string", "1 day"),
        ("varbit", "string", "012"),
        ("int4[]", "array", [1, "x"]),
        ("int4[]", "array", [[1], 2]),
        ("json", "number", float("nan")),
    ],
)
async def test_a_bad_value_names_its_parameter(source: Source, server: str, declared: str, value: Any) -> None:
    item = statement(source.engine, f"select (:when_)::{server} as value", when_=declared)
    with pytest.raises(ToolError) as caught:
        await run(source, item, value)
    assert caught.value.code is Code.INVALID_VALUE
    if server != "int4[]":
        assert "when_" in caught.value.message


@pytest.mark.parametrize(
    ("expression", "declared", "advice"),
    [
        ("(:id)::text", "integer", ":id::bigint"),
        ("(:id)::int", "string", "declare it integer or number"),
        ("(:id)::int[]", "integer", "declare it array"),
        ("(:id)::boolean", "string", "declare it boolean"),
        ("(:id)::int4range", "string", ":id::text"),
        ("(:id)::point", "string", ":id::text"),
        ("(:id)::types.mood", "integer", "declare it string"),
    ],
)
async def test_a_type_that_cannot_be_bound_is_found_at_load(
    source: Source, expression: str, declared: str, advice: str
) -> None:
    item = statement(source.engine, f"select {expression} as value", name=expression, id=declared)
    with pytest.raises(ToolError) as caught:
        await run(source, item, 1)
    assert caught.value.code is Code.STATEMENT_INVALID
    assert f"parameter id is declared {declared}" in caught.value.detail
    assert advice in caught.value.detail


async def test_a_range_can_be_cast_from_text(source: Source) -> None:
    item = statement(source.engine, "select :id::text::int4range as value", id="string")
    assert (await run(source, item, "[1,4]")).rows[0][0] == "[1,5)"


@pytest.mark.parametrize(
    "text", ["select histogram_bounds from pg_stats limit 1", "select c as value from pg_class c limit 1"]
)
async def test_what_the_driver_cannot_decode_is_found_at_load(source: Source, text: str) -> None:
    with pytest.raises(ToolError) as caught:
        await run(source, statement(source.engine, text))
    assert caught.value.code is Code.STATEMENT_INVALID
    assert "cast" in caught.value.detail
    await asyncio.sleep(0)
    assert (await run(source, statement(source.engine, "select 1 as value", name="after"))).rows[0][0] == 1
