"""The quick check never says yes to what the whole validator refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ToolError
from gateway.tools.parameters import compile_parameters
from gateway.tools.plain import quick_check
from gateway.tools.validation import validator

KEYWORDS = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "number", "boolean", ["string", "null"], ["integer", "null"]])},
    optional={
        "minimum": st.integers(-3, 3) | st.sampled_from([0.5, -0.5]),
        "maximum": st.integers(-3, 3),
        "exclusiveMinimum": st.integers(-3, 3),
        "exclusiveMaximum": st.integers(-3, 3),
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(["^a", "b$", "^[a-c]*$", r"^\d+$"]),
        "enum": st.lists(st.sampled_from(["a", "b", "1", ""]), min_size=1) | st.just([1, 2, "a"]),
        "format": st.sampled_from(["date", "uuid", "email"]),
        "title": st.just("a title"),
    },
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-4, 4)
    | st.just(2**70)
    | st.sampled_from([Decimal("0.5"), Decimal("1.0"), Decimal("1e2000")])
    | st.text("abc1\ud800é", max_size=4)
    | st.sampled_from(["2026-11-22", "a@b.example", "a" * 20_000])
    | st.lists(st.integers(), max_size=1)
)
SCHEMAS = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(st.sampled_from("xyz"), KEYWORDS, max_size=3),
        "additionalProperties": st.just(False),
    },
    optional={"required": st.lists(st.sampled_from("xyz"), unique=True)},
)


@given(SCHEMAS, st.dictionaries(st.sampled_from("xyzw"), VALUES, max_size=4))
def test_a_yes_is_right(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    is_plain = quick_check(schema)
    if is_plain is not None and is_plain(arguments):
        assert list(validator(schema).iter_errors(arguments)) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"x": {"type": "array"}}, "additionalProperties": False},
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/y"}}, "additionalProperties": False},
        {"type": "object", "properties": {"x": True}, "additionalProperties": False},
        {"type": "object", "properties": {"x": {"type": "string", "not": {}}}, "additionalProperties": False},
        {"type": "object", "properties": {}, "additionalProperties": False, "minProperties": 1},
        {"type": "object", "properties": {"x": {"type": "integer", "multipleOf": 2}}, "additionalProperties": False},
        {"type": "object", "properties": {"x": {"type": "integer", "enum": [1]}}, "additionalProperties": False},
    ],
)
def test_what_it_does_not_understand_is_left_alone(schema: dict[str, Any]) -> None:
    assert quick_check(schema) is None


def test_a_usual_tool_is_within_it() -> None:
    properties = {"id": {"type": "integer", "minimum": 1}, "country": {"type": "string", "pattern": "^[A-Z]{2}$"}}
    is_plain = quick_check({"type": "object", "properties": properties, "additionalProperties": False})
    assert is_plain is not None
    assert is_plain({"id": 7, "country": "DE"})
    assert not is_plain({"id": 0, "country": "DE"})
    assert not is_plain({"id": True})
    assert not is_plain({"id": 7, "county": "DE"})


def test_what_is_not_plain_is_still_judged() -> None:
    parameters, _ = compile_parameters({"id": {"type": "integer"}}, None)
    assert parameters is not None
    assert parameters.values({"id": Decimal("3.0")}) == {"id": 3}
    with pytest.raises(ToolError, match="id"):
        parameters.values({"id": Decimal("3.5")})
