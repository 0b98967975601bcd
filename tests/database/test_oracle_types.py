"""Every column type of Oracle that the stand-in can send, in exactly the value that goes out, and what is refused."""

from __future__ import annotations

import array
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import oracledb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.database import oracle_exact as exact
from gateway.database import oracle_types as types
from gateway.database.engine import Json, Kind, Output, Statement
from gateway.database.oracle_binding import bind
from gateway.database.oracle_statement import Form, form_of, leaves_nothing, sendable
from gateway.database.sources import Source, build_engine
from gateway.errors import Code, ToolError
from tests.database.support import reached, run, statement
from tests.servers.oracle import moments
from tests.servers.oracle import values as wire
from tests.servers.oracle.server import OracleServer, running_oracle

N38 = "9" * 38

# Column type, SQL of a value for the stand-in (digits as a blob, lest SQLite rounds them), name, kind, value.
TABLE: list[tuple[str, str, str, Kind, Any]] = [
    ("NUMBER(38)", f"cast('-{N38}' as blob)", "number", Kind.INTEGER, -int(N38)),
    ("NUMBER(5,-2)", "12300", "number", Kind.INTEGER, 12300),
    ("INTEGER", "9223372036854775807", "number", Kind.INTEGER, 2**63 - 1),
    ("NUMBER(10,2)", "cast('-0.01' as blob)", "number", Kind.DECIMAL, Decimal("-0.01")),
    ("NUMBER(38,19)", "cast('1234567890123456789.0987654321098765432' as blob)", "number", Kind.DECIMAL,
     Decimal("1234567890123456789.0987654321098765432")),
    ("NUMBER", "cast('0.1' as blob)", "number", Kind.DECIMAL, Decimal("0.1")),
    ("NUMBER", "cast('1E-130' as blob)", "number", Kind.DECIMAL, Decimal("1E-130")),
    ("NUMBER", "0", "number", Kind.DECIMAL, Decimal(0)),
    ("BINARY_FLOAT", "0.1", "binary float", Kind.FLOAT, 0.1),
    ("BINARY_FLOAT", "-3.4028234e38", "binary float", Kind.FLOAT, -3.4028235e38),
    ("BINARY_DOUBLE", "0.1", "binary double", Kind.FLOAT, 0.1),
    ("BINARY_DOUBLE", "-1.7976931348623157e308", "binary double", Kind.FLOAT, -1.7976931348623157e308),
    ("VARCHAR2(100)", "'ü€😀'", "varchar2", Kind.TEXT, "ü€😀"),
    ("CHAR(3)", "'a  '", "char", Kind.TEXT, "a  "),
    ("CLOB", "'ü' || printf('%.*c', 20000, 'x')", "clob", Kind.TEXT, "ü" + "x" * 20000),
    ("CLOB", "'short'", "clob", Kind.TEXT, "short"),
    ("BLOB", "x'00ff'", "blob", Kind.BYTES, b"\x00\xff"),
    ("BLOB", "x''", "blob", Kind.BYTES, b""),
    ("RAW(10)", "x'00ff'", "raw", Kind.BYTES, b"\x00\xff"),
    ("DATE", "'2024-02-29'", "date", Kind.DATETIME, "2024-02-29T00:00:00"),
    ("DATE", "'9999-12-31 23:59:59'", "date", Kind.DATETIME, "9999-12-31T23:59:59"),
    ("TIMESTAMP(6)", "'2024-05-31 10:30:00.12'", "timestamp", Kind.DATETIME, "2024-05-31T10:30:00.120000"),
    ("TIMESTAMP(0)", "'0001-01-01 00:00:00'", "timestamp", Kind.DATETIME, "0001-01-01T00:00:00"),
    ('"TIMESTAMP(6) WITH LOCAL TIME ZONE"', "'2024-05-31 10:30:00'", "timestamp with local time zone", Kind.DATETIME,
     "2024-05-31T10:30:00+00:00"),
    ("TIMESTAMP(9)", "'2024-05-31 10:30:00.123456789'", "timestamp", Kind.DATETIME, "2024-05-31T10:30:00.123456789"),
    ("TIMESTAMP(9)", "'2024-05-31 10:30:00.1234'", "timestamp", Kind.DATETIME, "2024-05-31T10:30:00.123400"),
    ('"TIMESTAMP(9) WITH LOCAL TIME ZONE"', "'0001-01-01 00:00:00.000000001'", "timestamp with local time zone",
     Kind.DATETIME, "0001-01-01T00:00:00.000000001+00:00"),
    ('"TIMESTAMP(6) WITH TIME ZONE"', "'2024-05-31 10:30:00.12 +05:30'", "timestamp with time zone", Kind.DATETIME,
     "2024-05-31T10:30:00.120000+05:30"),
    ('"TIMESTAMP(0) WITH TIME ZONE"', "'2024-05-31 23:30:00 -09:30'", "timestamp with time zone", Kind.DATETIME,
     "2024-05-31T23:30:00-09:30"),
    ('"TIMESTAMP(9) WITH TIME ZONE"', "'2024-07-01 10:30:00.000000001 Europe/Berlin'", "timestamp with time zone",
     Kind.DATETIME, "2024-07-01T10:30:00.000000001+02:00"),
    ('"TIMESTAMP(6) WITH TIME ZONE"', "'2024-12-01 10:30:00 Europe/Berlin'", "timestamp with time zone",
     Kind.DATETIME, "2024-12-01T10:30:00+01:00"),
    ('"INTERVAL DAY(9) TO SECOND(9)"', "'-3 04:05:06.000000007'", "interval day to second", Kind.INTERVAL,
     "P-3DT-4H-5M-6.000000007S"),
    ('"INTERVAL DAY(2) TO SECOND(9)"', "'0 00:00:00'", "interval day to second", Kind.INTERVAL, "PT0S"),
    ('"INTERVAL DAY(9) TO SECOND(6)"', "'-3 04:05:06.7'", "interval day to second", Kind.INTERVAL, "P-3DT-4H-5M-6.7S"),
    ('"INTERVAL DAY(9) TO SECOND(6)"', "'999999999 00:00:00'", "interval day to second", Kind.INTERVAL, "P999999999D"),
    ('"INTERVAL DAY(9) TO SECOND(6)"', "'0 00:00:00'", "interval day to second", Kind.INTERVAL, "PT0S"),
    ('"INTERVAL YEAR TO MONTH"', "'-1-2'", "interval year to month", Kind.INTERVAL, "P-1Y-2M"),
    ('"INTERVAL YEAR TO MONTH"', "'0-0'", "interval year to month", Kind.INTERVAL, "P0M"),
    ("BOOLEAN", "1", "boolean", Kind.BOOLEAN, True),
    ("OSON_TEXT", '\'{"b": [null, true, "ü", {"a": 1.10}], "a": -12345678901234567890}\'', "json", Kind.JSON,
     '{"b":[null,true,"ü",{"a":1.1}],"a":-12345678901234567890}'),
    ("OSON_TEXT", "'[]'", "json", Kind.JSON, "[]"),
    ("OSON_TEXT", "'1.5'", "json", Kind.JSON, "1.5"),
    ("VECTOR", "'[0.1, -2]'", "vector", Kind.ARRAY, [0.1, -2.0]),
    ("JSON", '\'{"a": 1.10, "b": 12345678901234567890}\'', "json", Kind.JSON, '{"a": 1.10, "b": 12345678901234567890}'),
]  # fmt: skip


CUT = re.compile(r"\(9\)\"?$|\(9\) WITH|H TIME Z")
WHOLE = [index for index, (declared, *_) in enumerate(TABLE) if not CUT.search(declared)]
"""The columns that the driver gives without loss; a query with others is put into another one."""


@pytest.mark.parametrize("chosen", [range(len(TABLE)), WHOLE], ids=["all", "those without loss"])
async def test_every_type_is_told_and_given_exactly(oracle: OracleServer, chosen: Sequence[int]) -> None:
    columns = ", ".join(f"c{index} {declared}" for index, (declared, *_) in enumerate(TABLE))
    literals = ", ".join(literal for _, literal, *_ in TABLE)
    await oracle.execute(
        f"drop table if exists every_type; create table every_type (id integer, {columns});"
        f"insert into every_type values (1, {literals});"
        f"insert into every_type (id) values (2);"
    )
    entries = [TABLE[index] for index in chosen]
    listed = ", ".join(f"c{index}" for index in chosen)
    engine = build_engine(oracle.settings())
    item = statement(engine, f"select {listed} from every_type where id = :id", name="types", id="integer")
    async with reached(oracle.settings(), [item]) as source:
        for number in (1, 2, 1):  # the second time by the cursor that the server kept
            table = await run(source, item, number)
            told = [(column.name, column.type_name, column.kind) for column in table.columns]
            assert told == [(f"C{index}", *TABLE[index][2:4]) for index in chosen]
            assert source.shapes["types"] == table.columns
            expected = [value for *_, value in entries] if number == 1 else [None] * len(entries)
            for value, wanted, entry in zip(table.rows[0], expected, entries, strict=True):
                assert (value, type(value)) == (wanted, Json if isinstance(value, Json) else type(wanted)), entry


async def test_what_the_driver_itself_makes_of_zones(oracle: OracleServer) -> None:
    """Why the gateway asks for text: should a newer driver keep zones, this will tell."""
    await oracle.execute(
        "drop table if exists zoned; create table zoned (id integer, c 'TIMESTAMP(6) WITH TIME ZONE');"
        "insert into zoned values (1, '2024-05-31 10:30:00 +05:30'), (2, '2024-05-31 10:30:00 Europe/Berlin')"
    )
    raw = await oracledb.connect_async(
        user=oracle.user, password=oracle.password, host=oracle.host, port=oracle.port, service_name=oracle.service
    )
    assert await raw.fetchone("select c from zoned where id = 1") == (datetime(2024, 5, 31, 10, 30),)  # noqa: DTZ001
    with pytest.raises(oracledb.Error, match="DPY-3022"):
        await raw.fetchone("select c from zoned where id = 2")
    await raw.close()


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ('select c as "a""b" from lossy', "give every column a plain alias, or make text of it there: to_char"),
        ("select c from lossy for update", "the server does not give it as text here (ORA-00907: "),
    ],
)
async def test_what_cannot_be_asked_for_as_text_is_refused_when_it_is_prepared(
    oracle: OracleServer, text: str, advice: str
) -> None:
    await oracle.execute("drop table if exists lossy; create table lossy (c 'TIMESTAMP(6) WITH TIME ZONE')")
    settings = oracle.settings(access="read-write")
    item = statement(build_engine(settings), text, name="lossy", writes=True)
    async with reached(settings, [item]) as source:
        assert source.broken["lossy"].code is Code.STATEMENT_INVALID
        assert advice in source.broken["lossy"].detail


async def test_a_column_that_changes_its_type_is_told_and_then_given(oracle: OracleServer) -> None:
    item = statement(build_engine(oracle.settings()), "select c from fickle -- its zone", name="fickle")
    zoned, plain = "'TIMESTAMP(6) WITH TIME ZONE'", "DATE"
    await oracle.execute(f"drop table if exists fickle; create table fickle (c {plain})")
    async with reached(oracle.settings(), [item]) as source:
        assert (await run(source, item)).columns[0].type_name == "date"
        await oracle.execute(
            f"drop table fickle; create table fickle (c {zoned});"
            "insert into fickle values ('2024-05-31 10:30:00 +02:00')"
        )
        with pytest.raises(ToolError) as caught:
            await run(source, item)
        assert "to_char" in caught.value.detail
        table = await run(source, item)
        assert (table.columns[0].type_name, table.rows[0][0]) == (
            "timestamp with time zone",
            "2024-05-31T10:30:00+02:00",
        )
        assert source.shapes["fickle"] == table.columns


async def test_a_comment_that_changes_with_each_call_costs_no_round_trip(oracle: OracleServer) -> None:
    await oracle.execute(
        "drop table if exists zoned; create table zoned (c 'TIMESTAMP(6) WITH TIME ZONE');"
        "insert into zoned values ('2024-05-31 10:30:00 +02:00')"
    )
    async with reached(oracle.settings(pool={"min": 1, "max": 1})) as source:
        calls = []
        for number in range(4):
            text = f"select c, stand_in_calls() as n from zoned\n/*traceparent='00-{number}'*/"
            moment, count = (await run(source, statement(source.engine, text, name="zoned"))).rows[0]
            assert moment == "2024-05-31T10:30:00+02:00"
            calls.append(count)
        assert calls[3] - calls[2] == calls[2] - calls[1]
        assert len(source.engine._queries) == 1  # type: ignore[attr-defined]


async def test_a_query_within_another_keeps_its_order_its_arguments_and_its_limit(oracle: OracleServer) -> None:
    await oracle.execute(
        "drop table if exists zoned; create table zoned (id integer, c 'TIMESTAMP(9) WITH TIME ZONE');"
        "insert into zoned with recursive n(i) as (select 1 union all select i + 1 from n where i < 900)"
        " select i, '2024-05-31 10:30:00.' || printf('%09d', i) || ' Asia/Kolkata' from n"
    )
    text = 'with z as (select id as "n", c as at from zoned where id > :least) select * from z order by 1 desc;'
    async with reached(oracle.settings()) as source:
        table = await run(source, statement(source.engine, text, least="integer"), 10, max_rows=700)
    assert table.is_truncated
    assert [column.name for column in table.columns] == ["n", "AT"]
    assert [row[0] for row in table.rows] == list(range(900, 200, -1))
    assert table.rows[0][1] == "2024-05-31T10:30:00.000000900+05:30"


async def test_the_rows_of_a_ref_cursor_are_not_asked_for_as_text(oracle: OracleServer) -> None:
    await oracle.execute("drop table if exists zoned; create table zoned (c 'TIMESTAMP(6) WITH TIME ZONE')")
    async with reached(oracle.settings(access="read-write")) as source:
        text = "begin open :O1 for select c from zoned; end;"
        item = Statement("zones", text, (), (), True, (Output("rows", "rows"),))
        with pytest.raises(ToolError) as caught:
            await run(source, item)
        assert "column C is timestamp with time zone: the driver drops a part of it" in caught.value.detail


def test_a_query_within_another_keeps_its_columns() -> None:
    zoned, json = described(oracledb.DB_TYPE_TIMESTAMP_TZ), described(oracledb.DB_TYPE_CLOB, name="J", is_json=True)
    query = exact.query_of([zoned, json])
    exact.check(query, [zoned, json], [described(oracledb.DB_TYPE_VARCHAR), json])
    with pytest.raises(ToolError, match="does not fit"):
        exact.check(query, [zoned, json], [zoned, described(oracledb.DB_TYPE_CLOB, name="J")])


@given(st.datetimes(), st.integers(0, 10**9 - 1), st.integers(-14 * 60, 14 * 60))
def test_any_moment_is_read_as_to_char_writes_it(moment: datetime, nanoseconds: int, minutes: int) -> None:
    column = described(oracledb.DB_TYPE_TIMESTAMP_TZ)
    query = exact.query_of([column])
    form = re.search(r"'(.*?)'", query.sent("select 1"))
    assert form
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    text = f"{moment:%m-%d %H:%M:%S}.{nanoseconds:09d} {zone}"
    written = moments.to_char(f"{moment.year:04d}-{text}", form[1])
    ((_, read),) = query.readers
    given_back = read(written)
    whole, _, fraction = given_back.removesuffix(zone).partition(".")
    assert given_back.endswith(zone)
    assert datetime.fromisoformat(whole) == moment.replace(microsecond=0)
    assert len(fraction) in (0, 6, 9)
    assert int(fraction.ljust(9, "0")) == nanoseconds


def test_text_that_is_no_moment_is_not_passed_on() -> None:
    ((_, moment),) = exact.query_of([described(oracledb.DB_TYPE_TIMESTAMP_TZ)]).readers
    ((_, interval),) = exact.query_of([described(oracledb.DB_TYPE_INTERVAL_DS, scale=9)]).readers
    with pytest.raises(ValueError, match="before 1"):
        moment("-0043-03-15T00:00:00.000000000+00:00")
    with pytest.raises(ValueError, match="form"):
        interval("+01-02")


def test_a_document_without_end_is_unrepresentable() -> None:
    deep: Any = 1
    for _ in range(20_000):
        deep = [deep]
    with pytest.raises(ToolError) as caught:
        types._json(deep)
    assert caught.value.code is Code.UNREPRESENTABLE


async def test_a_date_before_christ_and_text_that_is_no_json_are_unrepresentable(oracle: OracleServer) -> None:
    await oracle.execute(
        "drop table if exists odd; create table odd (d date, j json); insert into odd values ('0000-01-01', '{oops')"
    )
    async with reached(oracle.settings(pool={"min": 1, "max": 1})) as source:
        for column in ("d", "j"):
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, f"select {column} from odd", name=column))
            assert caught.value.code is Code.UNREPRESENTABLE
        assert (await run(source, statement(source.engine, "select 1 as n"))).rows


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", 2**62, 2**62),
        ("integer", None, None),
        ("number", Decimal("1.10"), Decimal("1.1")),
        ("number", 0.1, Decimal("0.1")),
        ("boolean", True, 1),
        ("boolean", False, 0),
        ("string", "ü€😀", "ü€😀"),
        ("string", "", None),
        ("string", "x" * 40000, "x" * 40000),
        ("object", {"a": Decimal("1.10")}, '{"a":1.10}'),
        ("array", [1, "x"], '[1,"x"]'),
    ],
)
async def test_arguments_arrive_as_declared(oracle: OracleServer, kind: str, value: Any, expected: Any) -> None:
    async with reached(oracle.settings()) as source:
        item = statement(source.engine, 'select :v as "x", :w as "y"', v=kind, w="string")
        for _ in range(2):
            assert list((await run(source, item, value, "other")).rows[0]) == [expected, "other"]


@pytest.mark.parametrize(("version", "kind"), [(19, wire.NUMBER), (23, wire.BOOLEAN)])
async def test_a_boolean_is_bound_as_one_from_23ai_on(version: int, kind: int) -> None:
    with running_oracle(version=version) as server:
        async with reached(server.settings()) as source:
            text = "select :v as x, sys_context('userenv', 'bind_types') as kinds"
            item = statement(source.engine, text, v="boolean")
            for value, expected in ((True, 1), (False, 0), (None, None)):
                assert list((await run(source, item, value)).rows[0]) == [expected, str(kind)]


@pytest.mark.parametrize(
    "value", [Decimal("1E126"), Decimal("1E-131"), Decimal("1." + "1" * 38), Decimal("NaN"), "1", True]
)
async def test_a_number_that_oracle_cannot_hold_is_named(oracle: OracleServer, value: Any) -> None:
    async with reached(oracle.settings()) as source:
        item = statement(source.engine, "select :amount as x", amount="number")
        with pytest.raises(ToolError, match=r"amount must .*\.$") as caught:
            await run(source, item, value)
        assert caught.value.code is Code.INVALID_VALUE
        assert not caught.value.is_sent


@given(st.decimals(allow_nan=False, allow_infinity=False).filter(lambda n: n == 0 or -130 <= n.adjusted() <= 125))
def test_the_stand_in_writes_numbers_as_it_reads_them(number: Decimal) -> None:
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if len(digits) <= 38:
        assert wire.read_number(wire.number(number)) == number


@given(st.one_of(st.integers(), st.decimals(), st.floats(), st.booleans(), st.text(), st.none()),
       st.sampled_from(["integer", "number", "boolean", "string", "object", "array"]), st.booleans())  # fmt: skip
def test_binding_takes_a_value_or_names_its_parameter(value: Any, kind: str, has_booleans: bool) -> None:
    item = SimpleNamespace(parameters=("p",), types=(kind,))
    try:
        bound = bind(item, [value], has_booleans=has_booleans)["P1"]  # type: ignore[arg-type]
    except ToolError as error:
        bound = error
    if isinstance(bound, ToolError):
        assert bound.code is Code.INVALID_VALUE
        assert "p " in bound.message
    else:
        assert isinstance(bound, int | Decimal | bool | str | None)


@pytest.fixture
async def source(oracle: OracleServer) -> AsyncIterator[Source]:
    async with reached(oracle.settings(access="read-write", pool={"min": 1, "max": 1})) as source:
        yield source


NUMBERS = st.builds(
    lambda digits, exponent, sign: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 10**38 - 1),
    st.integers(-130, 88),
    st.integers(0, 1),
).filter(lambda number: number == 0 or -130 <= number.adjusted() <= 125)


@given(value=NUMBERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_number_goes_there_and_back(source: Source, value: Decimal) -> None:
    text = "begin :O1 := :P1; end;"
    item = Statement("number", text, ("v",), ("number",), True, (Output("x", "number"),))
    assert (await run(source, item, value)).rows[0][0] == value


@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_text_goes_there_and_back(source: Source, value: str) -> None:
    item = statement(source.engine, 'select :v as "x"', name="text", v="string")
    assert (await run(source, item, value)).rows[0][0] == (value or None)


# What the stand-in cannot send is held to the driver's own descriptions.


def described(kind: Any, **more: Any) -> Any:
    values = {"name": "C", "precision": None, "scale": None, "is_json": False, "is_oson": False} | more
    return SimpleNamespace(type_code=kind, **values)


@pytest.mark.parametrize("kind", ["OBJECT", "BFILE", "CURSOR"])
def test_types_without_a_form_are_refused_with_advice(kind: str) -> None:
    with pytest.raises(ToolError) as caught:
        types.columns_of([described(getattr(oracledb, f"DB_TYPE_{kind}"))])
    assert "column C is " in caught.value.detail


def test_binary_json_goes_out_number_for_number() -> None:
    ((_, convert),) = types.converters_of([described(oracledb.DB_TYPE_JSON)])
    assert convert({"a": Decimal("1.10"), "b": [None, True, b"\xff"]}) == '{"a":1.10,"b":[null,true,"ff"]}'


def test_vectors_are_arrays_of_the_shortest_numbers() -> None:
    column = described(oracledb.DB_TYPE_VECTOR)
    assert types.columns_of([column])[0].kind is Kind.ARRAY
    ((_, convert),) = types.converters_of([column])
    assert convert(array.array("f", [0.1, 2.0])) == [0.1, 2.0]
    assert convert(array.array("b", [1, -2])) == [1, -2]
    with pytest.raises(ToolError, match="cast it"):
        convert(object())


# Texts


@pytest.mark.parametrize(
    ("text", "form", "sent"),
    [
        ("select 1", Form.QUERY, "select 1"),
        ("select 1 ; \n;", Form.QUERY, "select 1"),
        ("  ((select 1))", Form.QUERY, "  ((select 1))"),
        ("-- update\n/* delete */ with x as (select 1) select 1;", Form.QUERY,
         "-- update\n/* delete */ with x as (select 1) select 1"),
        ("insert into t values (';')", Form.CHANGE, "insert into t values (';')"),
        ("begin null; end;", Form.BLOCK, "begin null; end;"),
        ("begin null; end;\n/", Form.BLOCK, "begin null; end;"),
        ("declare x number; begin null; end", Form.BLOCK, "declare x number; begin null; end;"),
        ("call p(1);", Form.BLOCK, "call p(1)"),
        ("begin null; end;\n/*action='tool'*/", Form.BLOCK, "begin null; end;\n/*action='tool'*/"),
        ("begin null; end\n/\n-- done\n/* at last */\n", Form.BLOCK, "begin null; end;\n-- done\n/* at last */"),
        ("call p(1);\n/*action='tool'*/", Form.BLOCK, "call p(1)\n/*action='tool'*/"),
        ("select 1;\n/*action='tool'*/", Form.QUERY, "select 1\n/*action='tool'*/"),
        ("select '/*' as x;", Form.QUERY, "select '/*' as x"),
        ("create table t (id number);", Form.OTHER, "create table t (id number)"),
        ("", Form.OTHER, ""),
        ("42", Form.OTHER, "42"),
    ],
)  # fmt: skip
def test_a_statement_is_sent_as_the_server_takes_it(text: str, form: Form, sent: str) -> None:
    assert form_of(text) is form
    assert sendable(text) == sent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select count(*), upper(label) from item where id in (1, 2)", True),
        ("select shop.price(id) from item", False),
        ("select dbms_session.unique_session_id() from dual", False),
        ("begin null; end;", False),
    ],
)
def test_only_what_is_known_leaves_nothing(text: str, expected: bool) -> None:
    assert leaves_nothing(text) is expected
