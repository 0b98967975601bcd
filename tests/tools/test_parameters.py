"""Arguments: what is published, what is refused and in which words, and what is bound."""

from __future__ import annotations

import json
import time
from datetime import date
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, ToolError
from gateway.tools.parameters import Parameters, compile_parameters
from gateway.tools.validation import validator


def short(**parameters: dict[str, Any]) -> Parameters:
    made, mistakes = compile_parameters(parameters, None)
    assert mistakes == []
    assert made is not None
    return made


def whole(schema: dict[str, Any]) -> Parameters:
    made, mistakes = compile_parameters(None, schema)
    assert mistakes == []
    assert made is not None
    return made


def refusal(parameters: Parameters, arguments: dict[str, Any]) -> str:
    with pytest.raises(ToolError) as caught:
        parameters.values(arguments)
    assert caught.value.code is Code.INVALID_ARGUMENTS
    return caught.value.message


def mistakes_in(parameters: dict[str, Any] | None = None, input_schema: dict[str, Any] | None = None) -> dict[str, str]:
    made, mistakes = compile_parameters(parameters, input_schema)
    assert (made is None) == bool(mistakes)
    return {".".join(map(str, path)): message for path, message in mistakes}


class TestPublished:
    def test_the_short_form_becomes_a_closed_object(self) -> None:
        made = short(
            id={"type": "integer", "minimum": 1},
            size={"type": "integer", "default": 10},
            country={"type": "string", "optional": True, "nullable": True},
        )
        assert made.schema == {
            "type": "object",
            "properties": {
                "id": {"type": "integer", "minimum": 1},
                "size": {"type": "integer", "default": 10},
                "country": {"type": ["string", "null"]},
            },
            "required": ["id"],
            "additionalProperties": False,
        }

    def test_no_parameters_is_an_empty_closed_object(self) -> None:
        made, _ = compile_parameters(None, None)
        assert made is not None
        assert made.schema == {"type": "object", "properties": {}, "additionalProperties": False}
        assert made.values({}) == {}

    def test_a_pattern_is_published_for_the_whole_string_and_with_a_bound(self) -> None:
        made = short(a={"type": "string", "pattern": "x|y"}, b={"type": "string", "pattern": "^x$", "maxLength": 1})
        assert made.schema["properties"]["a"] == {"type": "string", "pattern": "^(?:x|y)$", "maxLength": 10000}
        assert made.schema["properties"]["b"] == {"type": "string", "pattern": "^x$", "maxLength": 1}

    def test_nullable_reaches_enumerations_and_nested_values(self) -> None:
        made = short(
            a={"type": "string", "enum": ["x"], "nullable": True},
            b={"type": "array", "items": {"type": "integer", "nullable": True}},
        )
        assert made.values({"a": None, "b": [1, None]}) == {"a": None, "b": [1, None]}
        assert made.schema["properties"]["a"] == {"type": ["string", "null"], "enum": ["x", None]}

    def test_a_sensitive_parameter_is_published_as_write_only(self) -> None:
        assert short(pin={"type": "string", "sensitive": True}).schema["properties"]["pin"] == {
            "type": "string",
            "writeOnly": True,
        }

    def test_a_property_named_like_a_keyword_is_only_a_name(self) -> None:
        made = short(o={"type": "object", "properties": {"pattern": {"type": "string"}, "enum": {"type": "integer"}}})
        assert made.schema["properties"]["o"]["properties"] == {
            "pattern": {"type": "string"},
            "enum": {"type": "integer"},
        }

    def test_a_whole_schema_is_published_as_written(self) -> None:
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {"$anchor": "addr", "type": "object", "properties": {"city": {"type": "string"}}}},
            "properties": {
                "name": {"type": "string", "pattern": "a"},
                "address": {"$ref": "#addr"},
                "contact": {"enum": ["phone", "mail"]},
                "phone": {"type": "string"},
            },
            "allOf": [{"anyOf": [{"required": ["name"]}, {"required": ["phone"]}]}],
            "if": {"properties": {"contact": {"const": "phone"}}, "required": ["contact"]},
            "then": {"required": ["phone"]},
            "else": {"required": ["name"]},
            "additionalProperties": False,
        }
        before = json.dumps(schema)
        made = whole(schema)
        assert json.dumps(made.schema) == before
        assert made.types == {"name": "string", "address": "object", "contact": "string", "phone": "string"}
        assert made.values({"name": "bad"})["name"] == "bad"
        assert '"phone" is missing' in refusal(made, {"name": "a", "contact": "phone"})
        assert 'Argument "address.city": got 1; must be a string.' in refusal(
            made, {"name": "a", "address": {"city": 1}}
        )


class TestBound:
    def test_defaults_and_absent_values(self) -> None:
        made = short(a={"type": "integer", "default": 7}, b={"type": "string", "optional": True})
        assert made.values({}) == {"a": 7, "b": None}
        assert made.values({"a": 1, "b": "x"}) == {"a": 1, "b": "x"}

    @pytest.mark.parametrize("number", [Decimal("3.0"), Decimal("3E0"), Decimal("0.3E1")])
    def test_an_integer_with_a_fraction_of_zero_is_an_integer(self, number: Decimal) -> None:
        value = short(a={"type": "integer"}).values({"a": number})["a"]
        assert value == 3
        assert type(value) is int

    def test_numbers_are_compared_exactly(self) -> None:
        made = short(a={"type": "number", "minimum": 0.1, "maximum": 0.3, "multipleOf": 0.1})
        for good in ("0.1", "0.2", "0.3", "0.30"):
            assert made.values({"a": Decimal(good)}) == {"a": Decimal(good)}
        for bad in ("0.09999999999999999999999999", "0.30000000000000000000000001", "0.15"):
            assert "must be a number from 0.1 to 0.3" in refusal(made, {"a": Decimal(bad)})

    def test_a_default_with_a_fraction_is_bound_exactly(self) -> None:
        assert short(a={"type": "number", "default": 0.1}).values({})["a"] == Decimal("0.1")

    def test_arrays_and_objects_stay_what_they_are(self) -> None:
        made = short(a={"type": "array"}, o={"type": "object"})
        value = {"a": [1, "x", None, [Decimal("1.10")]], "o": {"k": {"l": True}}}
        assert made.values(value) == value

    @pytest.mark.parametrize("kind", ["integer", "number"])
    def test_true_is_no_number(self, kind: str) -> None:
        assert "got true" in refusal(short(a={"type": kind}), {"a": True})

    def test_a_number_is_no_boolean(self) -> None:
        assert "got 1; must be true or false" in refusal(short(a={"type": "boolean"}), {"a": 1})

    @pytest.mark.parametrize("text", ["abc\n", "xabc", "abcx", "", "٣"])
    def test_a_pattern_holds_for_the_whole_string(self, text: str) -> None:
        made = short(a={"type": "string", "pattern": r"abc|\d"})
        assert "matching" in refusal(made, {"a": text})

    def test_formats_are_asserted(self) -> None:
        assert "must be a date such as 2024-01-31" in refusal(
            short(a={"type": "string", "format": "date"}), {"a": "2023-02-29"}
        )


class TestMessages:
    def test_which_argument_what_it_got_what_is_allowed(self) -> None:
        assert refusal(short(id={"type": "integer", "minimum": 1}), {"id": -1}) == (
            'Argument "id": got -1; must be an integer of at least 1.'
        )

    def test_all_problems_at_once(self) -> None:
        made = short(a={"type": "integer"}, b={"type": "string", "enum": ["x", "y"]}, c={"type": "boolean"})
        assert refusal(made, {"a": "1", "b": "z"}).splitlines() == [
            'Argument "a": got "1"; must be an integer.',
            'Argument "b": got "z"; must be one of "x", "y".',
            'Argument "c" is missing; it must be true or false.',
        ]

    def test_but_no_more_than_five(self) -> None:
        made = short(**{f"p{number}": {"type": "integer"} for number in range(8)})
        lines = refusal(made, {}).splitlines()
        assert len(lines) == 6
        assert lines[-1] == "And 3 more."

    def test_an_unknown_argument_and_the_nearest_name(self) -> None:
        made = short(country={"type": "string", "optional": True})
        assert refusal(made, {"contry": "DE"}) == 'Argument "contry" is unknown; did you mean "country"?'
        assert refusal(made, {"zzz": 1}) == 'Argument "zzz" is unknown; known are: country.'
        assert refusal(short(), {"zzz": 1}) == 'Argument "zzz" is unknown; this tool takes no arguments.'

    def test_an_argument_is_refused_even_where_the_schema_is_open(self) -> None:
        made = whole({"type": "object", "properties": {"a": {"type": "string"}}})
        assert "is unknown" in refusal(made, {"b": "x"})

    def test_nested_places(self) -> None:
        made = short(
            f={
                "type": "object",
                "properties": {"tags": {"type": "array", "items": {"type": "string", "minLength": 2}}},
                "required": ["kind"],
                "additionalProperties": False,
            }
        )
        assert refusal(made, {"f": {"tags": ["ok", "x"], "kid": 1}}).splitlines() == [
            'Argument "f.tags[1]": got "x"; must be a string of at least 2 characters.',
            'Argument "f.kind" is missing.',
            'Argument "f": "kid" unknown; known are: tags.',
        ]

    def test_sensitive_values_are_never_repeated(self) -> None:
        made = short(
            pin={"type": "string", "sensitive": True, "minLength": 4},
            login={
                "type": "object",
                "properties": {"secret": {"type": "string", "sensitive": True, "pattern": "[0-9]+"}},
                "maxProperties": 1,
            },
        )
        message = refusal(made, {"pin": "zq1", "login": {"secret": "zq2", "x": "zq3"}})
        assert "zq" not in message
        assert "a value that is not shown" in message

    def test_nor_are_those_that_a_parameter_refers_to(self) -> None:
        made = whole(
            {
                "type": "object",
                "$defs": {"card": {"type": "object", "writeOnly": True, "properties": {"pin": {"type": "integer"}}}},
                "properties": {"card": {"$ref": "#/$defs/card"}, "open": {"type": "integer"}},
            }
        )
        message = refusal(made, {"card": {"pin": "zq1"}, "open": "seen"})
        assert "zq1" not in message
        assert "seen" in message

    def test_many_unknown_arguments_cost_little(self) -> None:
        made = short(**{f"parameter_{number}": {"type": "integer", "optional": True} for number in range(50)})
        start = time.perf_counter()
        message = refusal(made, {f"parametre_{number}": 1 for number in range(4_000)})
        assert time.perf_counter() - start < 1.0
        assert len(message.splitlines()) == 6

    def test_long_values_are_shortened_and_stay_on_one_line(self) -> None:
        message = refusal(short(a={"type": "integer"}), {"a": "x\n" * 500})
        assert len(message) < 150
        assert "\n" not in message

    @pytest.mark.parametrize(
        ("schema", "phrase"),
        [
            ({"type": "integer", "minimum": 1, "maximum": 5}, "an integer from 1 to 5"),
            ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "a number above 0 below 1"),
            ({"type": "integer", "multipleOf": 5}, "an integer that is a multiple of 5"),
            ({"type": "string", "minLength": 2, "maxLength": 2}, "a string of exactly 2 characters"),
            ({"type": "string", "maxLength": 1}, "a string of at most 1 character"),
            (
                {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                "an array of at least 1 item, each an integer",
            ),
            ({"type": "array", "uniqueItems": True}, "an array, without repetition"),
            ({"type": "object", "required": ["a"]}, "an object with a"),
            ({"type": "integer", "nullable": True}, "an integer, or null"),
            ({"type": "string", "const": "x"}, 'exactly "x"'),
            ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "an integer, or a number"),
        ],
    )
    def test_phrases(self, schema: dict[str, Any], phrase: str) -> None:
        assert refusal(short(a=schema), {}) == f'Argument "a" is missing; it must be {phrase}.'

    def test_rules_between_arguments(self) -> None:
        made = whole(
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "string"}},
                "dependentRequired": {"a": ["b"]},
                "not": {"required": ["c"]},
                "minProperties": 1,
            }
        )
        assert refusal(made, {"a": "x"}) == 'The arguments: "a" needs "b".'
        assert refusal(made, {"c": "x"}) == "The arguments: must not be an object with c."
        assert "at least 1 property" in refusal(made, {})


class TestBounds:
    def test_depth(self) -> None:
        deep: Any = 1
        for _ in range(100_000):
            deep = [deep]
        assert "nests deeper" in refusal(short(a={"type": "array"}), {"a": deep})

    def test_size(self) -> None:
        assert "more than 10000 values" in refusal(short(a={"type": "array"}), {"a": [0] * 10_001})

    @pytest.mark.parametrize("number", [10**1100, Decimal("1e999999999"), Decimal("1e-999999999"), Decimal("9" * 1001)])
    def test_numbers(self, number: Any) -> None:
        assert "1000 digits" in refusal(short(a={"type": "number", "multipleOf": 0.01}), {"a": number})

    def test_text_that_is_not_unicode(self) -> None:
        assert "valid Unicode" in refusal(short(a={"type": "object"}), {"a": {"\ud800": 1}})

    def test_a_pattern_is_not_tried_on_endless_text(self) -> None:
        made = whole({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}})
        assert made.values({"a": "x" * 10_000})
        assert "matching x" in refusal(made, {"a": "x" * 10_001})

    def test_unique_items_cost_no_more_than_reading_them(self) -> None:
        made = short(a={"type": "array", "uniqueItems": True})
        items = [{"k": [number]} for number in range(2_400)]
        start = time.perf_counter()
        made.values({"a": items})
        assert time.perf_counter() - start < 1.0, "comparing each with each takes far longer"
        assert "without repetition" in refusal(made, {"a": [*items[:10], {"k": [Decimal("3.0")]}]})


class TestMistakes:
    def test_all_of_them_at_their_keys(self) -> None:
        found = mistakes_in(
            {
                "a": {"type": "intger"},
                "b": {"type": "string", "patern": "x"},
                "c": {"type": "string", "pattern": "("},
                "d": {"type": "string", "format": "dat"},
                "e": {"type": "integer", "minimum": "1"},
                "f": {"type": "string", "minLength": -1},
                "g": {"type": "integer", "optional": "yes"},
                "h": {"type": "integer", "default": 1, "optional": True},
            }
        )
        assert set(found) == {
            *("parameters.a.type", "parameters.b.patern", "parameters.c.pattern", "parameters.d.format"),
            *("parameters.e.minimum", "parameters.f.minLength", "parameters.g.optional", "parameters.h.optional"),
        }
        assert found["parameters.a.type"].startswith("expected one of string, integer")
        assert found["parameters.b.patern"] == "unknown keyword; did you mean pattern?"

    def test_a_default_that_breaks_its_schema(self) -> None:
        found = mistakes_in({"a": {"type": "integer", "minimum": 1, "default": 0}})
        assert found["parameters.a.default"] == (
            'breaks its own schema: Argument "a": got 0; must be an integer of at least 1.'
        )

    def test_the_default_of_one_property_is_not_judged_by_rules_between_them(self) -> None:
        schema = {
            "type": "object",
            "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "integer"}},
            "required": ["b"],
            "minProperties": 2,
        }
        assert whole(schema).values({"a": 2, "b": 3}) == {"a": 2, "b": 3}

    @pytest.mark.parametrize("schema", [{}, {"type": ["string", "integer"]}, {"type": "null"}, {"enum": [1, "x"]}])
    def test_a_parameter_has_one_type(self, schema: dict[str, Any]) -> None:
        assert mistakes_in({"a": schema})["parameters.a"].startswith("expected one type of")

    @pytest.mark.parametrize(
        ("schema", "kind"),
        [
            ({"type": ["integer", "number", "null"]}, "number"),
            ({"enum": ["a", None]}, "string"),
            ({"const": True}, "boolean"),
            ({"anyOf": [{"type": "null"}, {"type": "array"}]}, "array"),
            ({"allOf": [{"type": "object"}, {"minProperties": 1}]}, "object"),
        ],
    )
    def test_types_that_can_be_told(self, schema: dict[str, Any], kind: str) -> None:
        assert short(a=schema).types == {"a": kind}

    def test_nothing_is_fetched(self) -> None:
        found = mistakes_in(
            None,
            {
                "type": "object",
                "properties": {"a": {"$ref": "https://example.com/s.json"}, "b": {"$ref": "#/$defs/none"}},
            },
        )
        assert found == {
            "input_schema.properties.a.$ref": "expected a reference inside this schema (#/...); nothing is fetched",
            "input_schema.properties.b.$ref": "nothing in this schema is called #/$defs/none",
        }

    @pytest.mark.parametrize(
        "loop", [{"allOf": [{"$ref": "#"}]}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}]
    )
    def test_a_schema_without_end(self, loop: dict[str, Any]) -> None:
        assert mistakes_in(None, {"type": "object", **loop}) == {
            "input_schema": "the schema refers to itself without end"
        }

    def test_a_property_without_end(self) -> None:
        branches = [{"$ref": "#/properties/a"}, {"type": "integer"}]
        assert mistakes_in(None, {"type": "object", "properties": {"a": {"anyOf": branches}}}) == {
            "input_schema": "the schema refers to itself without end"
        }

    def test_a_tree_has_an_end(self) -> None:
        tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "size": {"type": "integer"}}}
        made = whole({"type": "object", "$defs": {"tree": tree}, "properties": {"t": {"$ref": "#/$defs/tree"}}})
        assert made.values({"t": {"left": {"left": {"size": 1}}}})
        assert '"t.left.left.size"' in refusal(made, {"t": {"left": {"left": {"size": "x"}}}})

    def test_a_property_that_refers_to_itself_has_no_type(self) -> None:
        schema = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}
        assert "input_schema.properties.a" in mistakes_in(None, schema)

    def test_the_top_is_an_object(self) -> None:
        assert mistakes_in(None, {"type": "array"}) == {
            "input_schema.type": "expected object: the arguments of a tool are an object"
        }

    def test_another_dialect(self) -> None:
        schema = {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}
        assert "input_schema.$schema" in mistakes_in(None, schema)

    def test_both_forms(self) -> None:
        assert mistakes_in({}, {"type": "object"}) == {
            "input_schema": "write either parameters or input_schema, not both"
        }

    def test_what_yaml_makes_and_json_has_not(self) -> None:
        found = mistakes_in(
            {"a": {"type": "string", "default": date(2024, 1, 1)}, "b": {"type": "number", "maximum": float("inf")}}
        )
        assert found == {
            "parameters.a.default": "JSON has no date; write the value in quotes",
            "parameters.b.maximum": "expected a finite number",
        }

    @pytest.mark.parametrize(
        ("schema", "words"),
        [
            ({"type": "string", "x-mcp-header": "a b"}, "RFC 9110"),
            ({"type": "string", "x-mcp-header": 1}, "RFC 9110"),
            ({"type": "number", "x-mcp-header": "A"}, "only a string, integer or boolean"),
            ({"type": "string", "nullable": True, "x-mcp-header": "A"}, "cannot be null"),
        ],
    )
    def test_header_annotations(self, schema: dict[str, Any], words: str) -> None:
        assert words in mistakes_in({"a": schema})["parameters.a.x-mcp-header"]

    def test_a_header_is_used_once_and_by_properties_only(self) -> None:
        found = mistakes_in(
            {
                "a": {"type": "string", "x-mcp-header": "Region"},
                "b": {"type": "string", "x-mcp-header": "region"},
                "c": {"type": "array", "items": {"type": "string", "x-mcp-header": "C"}},
            }
        )
        assert set(found) == {"parameters.b.x-mcp-header", "parameters.c.items.x-mcp-header"}


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([Decimal("0.5"), Decimal("2.0")]),
    st.text("ab", max_size=3),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pq"), inner)
)
_LEAVES = st.one_of(
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-3, 3)),
    st.builds(lambda step: {"type": "number", "multipleOf": step}, st.integers(1, 3)),
    st.builds(lambda size: {"type": "string", "maxLength": size}, st.integers(0, 2)),
    st.sampled_from(
        [{"type": "boolean"}, {"type": ["null", "string"]}, {"enum": [1, "a", None, [1]]}, {"const": {"p": 1}}]
    ),
)
_SCHEMAS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "uniqueItems": True}, inner),
        st.builds(lambda p, q: {"type": "object", "properties": {"p": p}, "additionalProperties": q}, inner, inner),
        st.builds(lambda p: {"type": "object", "properties": {"p": p}, "required": ["p"]}, inner),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda branches: {"oneOf": branches}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda each: {"not": each}, inner),
        st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, inner, inner, inner),
    ),
    max_leaves=5,
)


def _as_floats(value: Any) -> Any:
    """The value as the standard library reads it, for a validator that knows floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return {key: _as_floats(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(_SCHEMAS, _VALUES)
def test_verdicts_are_those_of_plain_json_schema(schema: dict[str, Any], value: Any) -> None:
    plain = jsonschema.Draft202012Validator(schema)
    assert validator(schema).is_valid(value) == plain.is_valid(_as_floats(value))


@given(_SCHEMAS.filter(lambda schema: "type" in schema), _VALUES)
def test_every_refusal_has_words(schema: dict[str, Any], value: Any) -> None:
    made, mistakes = compile_parameters({"a": schema}, None)
    if made is None:
        assert mistakes
        return
    if validator(schema).is_valid(value):
        assert made.values({"a": value})["a"] == value
        return
    message = refusal(made, {"a": value})
    assert message.startswith('Argument "a')
    assert len(message) < 4000
