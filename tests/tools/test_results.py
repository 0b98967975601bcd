"""Results: exact JSON, a schema that holds, failures that a model can act on."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.context import Call, Principal
from gateway.database.engine import Column, Json, Kind, Table
from gateway.errors import Code, ToolError
from gateway.tools.results import (
    ERROR_KEY,
    MAX_JSON_DEPTH,
    Numbers,
    ToolResult,
    duplicate_columns,
    failure,
    output_schema,
    present,
)

CALL = Call("correlation-1", Principal("issuer", "subject", "", frozenset()), deadline=0.0)


@dataclass(frozen=True)
class Shown:
    """A tool, as far as its result depends on it."""

    numbers: Numbers = "exact"
    max_rows: int = 100
    max_result_bytes: int = 1 << 20
    narrowing: tuple[str, ...] = ()


def shown(value: Any, numbers: Numbers = "exact", kind: Kind = Kind.ANY) -> Any:
    """What one value becomes, read back without rounding."""
    result = present(Table((Column("v", kind),), [(value,)]), Shown(numbers))
    return exactly(result)["rows"][0]["v"]


def exactly(result: ToolResult) -> Any:
    assert result.structured is not None
    assert result.text == result.structured.decode()
    return json.loads(result.structured, parse_float=Decimal)


def refused(table: Table) -> ToolError:
    with pytest.raises(ToolError) as caught:
        present(table, Shown())
    return caught.value


class TestNumbers:
    @pytest.mark.parametrize("value", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**1000])
    def test_integers_of_any_size(self, value: int) -> None:
        assert shown(value) == value

    @pytest.mark.parametrize(
        "text", ["1.10", "0.1", "-0.0", "1E+3", "0E-10", "123456789012345678901234567890.123", "1E-400"]
    )
    def test_decimals_keep_their_scale(self, text: str) -> None:
        value = shown(Decimal(text))
        assert str(Decimal(value)) == text

    @pytest.mark.parametrize("value", [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e16])
    def test_floats_come_back_bit_for_bit(self, value: float) -> None:
        back = float(shown(value))
        assert back == value
        assert math.copysign(1, back) == math.copysign(1, value)

    @pytest.mark.parametrize("make", [float, Decimal])
    @pytest.mark.parametrize("numbers", ["exact", "string"])
    def test_what_json_has_no_number_for(self, make: type, numbers: Numbers) -> None:
        assert shown(make("nan"), numbers) == "NaN"
        assert shown(make("inf"), numbers) == "Infinity"
        assert shown(make("-inf"), numbers) == "-Infinity"

    def test_a_signalling_nan(self) -> None:
        assert shown(Decimal("sNaN")) == "NaN"

    def test_numbers_as_strings(self) -> None:
        assert shown(2**53 - 1, "string") == 2**53 - 1
        assert shown(2**53, "string") == "9007199254740992"
        assert shown(-(2**53), "string") == "-9007199254740992"
        assert shown(Decimal("1.10"), "string") == "1.10"
        assert shown(0.5, "string") == Decimal("0.5")
        assert shown([2**60, {"a": Decimal(1)}], "string") == [str(2**60), {"a": "1"}]

    def test_but_not_inside_json_documents(self) -> None:
        assert shown(Json('{"a": 9007199254740993, "b": 1.10}'), "string") == {
            "a": 9007199254740993,
            "b": Decimal("1.10"),
        }


class TestOthers:
    @pytest.mark.parametrize("value", [None, True, False, "", "é😀", "a\x00b", '\u2028\r\n\t"\\'])
    def test_plain_values(self, value: Any) -> None:
        assert shown(value) == value
        assert type(shown(value)) is type(value)

    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    def test_bytes_are_base64(self, make: Any) -> None:
        raw = bytes(range(256))
        assert base64.b64decode(shown(make(raw))) == raw

    def test_nested(self) -> None:
        value = [1, [None, Decimal("1.0")], {"k": (b"\x00", Json("[1 , 2]"))}]
        assert shown(value) == [1, [None, Decimal("1.0")], {"k": ["AA==", [1, 2]]}]

    def test_json_documents_keep_every_digit_order_and_repeated_key(self) -> None:
        document = '{"b": 1.0E+5,\r\n "a" : [ 12345678901234567890123 , "x \\" : y"],\t"b": 1e999}'
        result = present(Table((Column("v", Kind.JSON),), [(Json(document),)]), Shown())
        assert '{"v":{"b":1.0E+5,"a":[12345678901234567890123,"x \\" : y"],"b":1e999}}' in result.text

    def test_the_text_is_one_line(self) -> None:
        table = Table((Column("a\n", Kind.TEXT), Column("b", Kind.JSON)), [("x\r\ny", Json('[1,\n2,\r"\\n"]'))])
        assert not {"\n", "\r"} & set(present(table, Shown()).text)


class TestUnrepresentable:
    @pytest.mark.parametrize(
        "value",
        [
            *("\ud800", ["\udfff"], {"\ud800": 1}, object(), {1, 2}, [10**5000]),
            *(Json("{"), Json("NaN"), Json('"\ud800"'), Json('"a\nb"'), Json("01"), Json(""), Json("[1,]")),
            Json("[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1)),
        ],
    )
    def test_the_column_is_named(self, value: Any) -> None:
        error = refused(Table((Column("good", Kind.TEXT), Column("bad", Kind.ANY)), [("x", 1), ("y", value)]))
        assert error.code is Code.UNREPRESENTABLE
        assert '"bad"' in error.message

    def test_endless_nesting(self) -> None:
        deep: Any = 1
        for _ in range(5000):
            deep = [deep]
        assert refused(Table((Column("bad", Kind.ARRAY),), [(deep,)])).code is Code.UNREPRESENTABLE

    def test_a_write_says_that_it_happened(self) -> None:
        error = refused(Table((Column("bad", Kind.ANY),), [("\ud800",)], affected=1))
        assert error.message.startswith("The change was made")

    def test_a_json_document_at_the_bound_of_depth(self) -> None:
        assert shown(Json("[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH))

    def test_brackets_in_strings_do_not_count(self) -> None:
        assert shown(Json(json.dumps("[" * 1000))) == "[" * 1000

    def test_columns_of_one_name(self) -> None:
        columns = (Column("a", Kind.TEXT), Column("b", Kind.TEXT), Column("a", Kind.TEXT))
        assert duplicate_columns(columns) == ("a",)
        error = refused(Table(columns, []))
        assert error.code is Code.STATEMENT_INVALID
        assert "a" in error.detail


class TestResult:
    def test_the_shape(self) -> None:
        result = present(Table((Column("a", Kind.INTEGER), Column("b", Kind.TEXT)), [(1, "x"), (2, None)]), Shown())
        assert result.structured == b'{"rows":[{"a":1,"b":"x"},{"a":2,"b":null}],"row_count":2,"truncated":false}'
        assert (result.row_count, result.is_error, result.code, result.hints, result.meta) == (2, False, "", (), {})

    def test_a_write_counts(self) -> None:
        assert exactly(present(Table((), [], affected=3), Shown())) == {
            "rows": [],
            "row_count": 0,
            "truncated": False,
            "affected_rows": 3,
        }

    def test_truncation_tells_how_to_narrow(self) -> None:
        table = Table((Column("a", Kind.INTEGER),), [(1,), (2,)], is_truncated=True)
        result = present(table, Shown(narrowing=("country", "since")))
        assert exactly(result)["truncated"] is True
        assert result.hints == (
            "Only the first 2 rows are shown; there are more. Narrow the query with: country, since;"
            " or look for a tool that aggregates.",
        )
        assert "takes no arguments" in present(table, Shown()).hints[0]


class TestFailure:
    def test_a_result_that_names_the_code(self) -> None:
        result = failure(ToolError(Code.POOL_TIMEOUT, "Busy.", detail="secret-host", retry_after=1.2), CALL)
        assert result.is_error
        assert result.structured is None
        assert result.text == "Busy. Call again in 2 s."
        assert result.code == "pool_timeout"
        assert result.meta == {
            ERROR_KEY: {
                "code": "pool_timeout",
                "retryable": True,
                "retry_after_ms": 1200,
                "correlation_id": "correlation-1",
            }
        }

    def test_detail_stays_inside(self) -> None:
        result = failure(ToolError(Code.LOGIN_FAILED, "No.", detail="host=db.internal user=x"), CALL)
        assert "db.internal" not in f"{result.text}{result.meta}"
        assert result.detail == "host=db.internal user=x"
        assert result.meta[ERROR_KEY]["retryable"] is False
        assert result.meta[ERROR_KEY]["retry_after_ms"] is None

    def test_an_internal_fault_carries_its_id(self) -> None:
        assert "correlation-1" in failure(ToolError(Code.INTERNAL, "Broken."), CALL).text


_DECIMALS = st.decimals(allow_nan=True, allow_infinity=True)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    max_leaves=5,
)


def _dump(value: Any) -> str:
    """A JSON document with decimals digit for digit, and space between tokens."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[ {', '.join(map(_dump, value))}\n]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} : {_dump(item)}" for key, item in value.items()) + "\r\n}"
    return json.dumps(value)


VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INTEGER: st.integers(),
    Kind.DECIMAL: _DECIMALS,
    Kind.FLOAT: st.floats(),
    Kind.BOOLEAN: st.booleans(),
    Kind.TEXT: _TEXT,
    Kind.BYTES: st.binary(),
    Kind.DATE: st.dates().map(str) | st.just("infinity"),
    Kind.TIME: st.times().map(str),
    Kind.DATETIME: st.datetimes().map(str),
    Kind.INTERVAL: st.just("P1M3D"),
    Kind.UUID: st.uuids().map(str),
    Kind.JSON: _JSON.map(lambda value: Json(_dump(value))),
    Kind.OBJECT: st.dictionaries(_TEXT, st.integers() | _DECIMALS | _TEXT),
    Kind.ANY: st.integers() | st.floats() | _TEXT | st.binary(),
}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = draw(st.lists(_TEXT, unique=True, max_size=4))
    kinds = [draw(st.sampled_from([*VALUES, Kind.ARRAY])) for _ in names]
    items = [draw(st.sampled_from([*VALUES])) if kind is Kind.ARRAY else None for kind in kinds]
    columns = tuple(Column(*each) for each in zip(names, kinds, [""] * len(names), items, strict=True))

    def values(column: Column) -> st.SearchStrategy[Any]:
        if column.items is None:
            return st.none() | VALUES[column.kind]
        flat = st.lists(st.none() | VALUES[column.items], max_size=3)
        return st.none() | flat | st.lists(flat, max_size=2)

    rows = draw(st.lists(st.tuples(*map(values, columns)), max_size=4))
    return Table(columns, rows, draw(st.booleans()), draw(st.none() | st.integers(0, 9)))


def expected(value: Any, numbers: Numbers) -> Any:
    """What a client that reads numbers exactly must see, worked out another way."""
    match value:
        case Json():
            return json.loads(value, parse_float=Decimal)
        case float() | Decimal() if not Decimal(value).is_finite():
            return "NaN" if Decimal(value).is_nan() else "Infinity" if value > 0 else "-Infinity"
        case Decimal() if numbers == "string":
            return str(value)
        case float():
            return Decimal(repr(value))
        case bool():
            return value
        case int() if numbers == "string" and abs(value) >= 2**53:
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [expected(item, numbers) for item in value]
        case dict():
            return {key: expected(item, numbers) for key, item in value.items()}
    return value


@given(tables(), st.sampled_from(["exact", "string"]))
def test_every_table_round_trips_and_fits_its_schema(table: Table, numbers: Numbers) -> None:
    content = exactly(present(table, Shown(numbers)))
    names = [column.name for column in table.columns]
    wanted = [{name: expected(value, numbers) for name, value in zip(names, row, strict=True)} for row in table.rows]
    assert content["rows"] == wanted
    schema = output_schema(table.columns, numbers, writes=table.affected is not None)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(content)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((Kind.INTEGER, "1"), (Kind.DECIMAL, "1.5"), (Kind.FLOAT, "x"), (Kind.BOOLEAN, 1), (Kind.TEXT, 1)),
        *((Kind.BYTES, 1), (Kind.DATE, 1), (Kind.UUID, True), (Kind.ARRAY, {}), (Kind.OBJECT, [])),
    ],
)
def test_the_schema_refuses_what_is_not_of_the_kind(kind: Kind, wrong: Any) -> None:
    schema = output_schema((Column("v", kind),), "exact")
    content: dict[str, Any] = {"rows": [{"v": wrong}], "row_count": 1, "truncated": False}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)
    content["rows"] = [{"v": None}]
    jsonschema.validate(content, schema)


def test_the_schema_asks_for_every_column_and_no_other() -> None:
    schema = output_schema((Column("a", Kind.ANY),), "exact")
    for row in ({}, {"a": 1, "b": 2}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"rows": [row], "row_count": 1, "truncated": False}, schema)
