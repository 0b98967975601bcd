"""Parameters whose values are claims: what callers see, what they cannot do, and what is denied."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, ToolError
from gateway.tools.parameters import Parameters, compile_parameters
from tests.tools.test_parameters import mistakes_in, refusal, short

WRITTEN: dict[str, dict[str, Any]] = {
    "id": {"type": "integer"},
    "tenant": {"type": "string", "pattern": "[a-z]+", "from_claim": "org.tenant"},
    "level": {"type": "integer", "maximum": 5, "from_claim": "level"},
    "note": {"type": "string", "optional": True},
}
CLAIMS: dict[str, Any] = {"org": {"tenant": "acme"}, "level": 3, "iss": "x"}


def made() -> Parameters:
    parameters, mistakes = compile_parameters(WRITTEN, None)
    assert parameters is not None
    assert mistakes == []
    return parameters


def denial(claims: dict[str, Any]) -> ToolError:
    with pytest.raises(ToolError) as caught:
        made().values({"id": 1}, claims)
    assert caught.value.code is Code.ACCESS_DENIED
    return caught.value


def test_the_token_gives_what_callers_cannot() -> None:
    parameters = made()
    assert list(parameters.schema["properties"]) == ["id", "note"]
    assert parameters.schema["required"] == ["id"]
    assert parameters.types == {"id": "integer", "note": "string", "tenant": "string", "level": "integer"}
    assert parameters.values({"id": 1}, CLAIMS) == {"id": 1, "note": None, "tenant": "acme", "level": 3}
    assert parameters.places["tenant"] == ("parameters", "tenant")


@given(st.sampled_from(["tenant", "level", "tenent", "org.tenant"]), st.sampled_from(["acme", 3, None, []]))
def test_an_argument_of_its_name_is_like_any_unknown_one(name: str, value: Any) -> None:
    plain = short(id={"type": "integer"}, note={"type": "string", "optional": True})
    with pytest.raises(ToolError) as caught:
        made().values({"id": 1, name: value}, CLAIMS)
    assert caught.value.code is Code.INVALID_ARGUMENTS
    assert caught.value.message == refusal(plain, {"id": 1, name: value})


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, "org.tenant"),
        ({"org": {"tenant": "acme"}}, "level"),
        ({"org": {"tenant": None}, "level": 3}, "org.tenant"),
        ({"org": {"tenant": "ACME"}, "level": 3}, "org.tenant"),
        ({"org": {"tenant": ["acme"]}, "level": 3}, "org.tenant"),
        ({"org": {"tenant": "acme\ud800"}, "level": 3}, "org.tenant"),
        ({"org": {"tenant": "acme"}, "level": "3"}, "level"),
        ({"org": {"tenant": "acme"}, "level": True}, "level"),
        ({"org": {"tenant": "acme"}, "level": 3.5}, "level"),
        ({"org": {"tenant": "acme"}, "level": 6}, "level"),
        ({"org": {"tenant": "acme"}, "level": -9007199254740993.0}, "level"),
        ({"org": {"tenant": "acme"}, "level": float("inf")}, "level"),
        ({"org": {"tenant": "acme"}, "level": -(10**5000)}, "level"),
    ],
)
def test_a_claim_that_is_missing_or_does_not_fit(claims: dict[str, Any], name: str) -> None:
    error = denial(claims)
    assert f"the claim {name}, which" in error.message
    assert "ACME" not in error.message + error.detail


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)


@given(_ANY | st.from_regex("[a-z]{1,3}", fullmatch=True), _ANY | st.integers(-9, 9) | st.sampled_from([1.0, -2.0]))
def test_whatever_a_token_holds_is_bound_as_its_type_or_denied(tenant: Any, level: Any) -> None:
    claims = {"org": {"tenant": tenant}, "level": level}
    is_name = isinstance(tenant, str) and re.fullmatch("[a-z]+", tenant)
    is_whole = type(level) is int or (isinstance(level, float) and abs(level) < 2**53 and level.is_integer())
    if not is_name or not is_whole or level > 5:
        denial(claims)
    else:
        values = made().values({"id": 1}, claims)
        assert (type(values["tenant"]), type(values["level"])) == (str, int)
        assert (values["tenant"], values["level"]) == (tenant, level)


def test_a_whole_float_is_an_integer_as_it_is_among_arguments() -> None:
    level = made().values({"id": 1}, CLAIMS | {"level": 3.0})["level"]
    assert (level, type(level)) == (3, int)


def test_wrong_arguments_are_told_before_claims() -> None:
    assert "must be an integer" in refusal(made(), {"id": "x"})


@pytest.mark.parametrize(
    ("word", "value"), [("optional", True), ("default", "x"), ("nullable", True), ("x-mcp-header", "T")]
)
def test_words_that_exclude_it(word: str, value: Any) -> None:
    found = mistakes_in({"a": {"type": "string", "from_claim": "a", word: value}})
    assert "either this or from_claim" in found[f"parameters.a.{word}"]


@pytest.mark.parametrize("path", ["", " ", "a..b", ".a", "a b", 7, None, ["a"]])
def test_it_is_a_path(path: Any) -> None:
    found = mistakes_in({"a": {"type": "string", "from_claim": path}})
    assert found == {"parameters.a.from_claim": "expected the name of a claim, with dots into nested ones"}


def test_it_belongs_to_a_parameter_itself() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string", "from_claim": "b"}}}
    assert "parameters.a.properties.b.from_claim" in mistakes_in({"a": schema})
    assert "under parameters" in mistakes_in(None, schema)["input_schema.properties.b.from_claim"]


def test_its_schema_is_checked_like_any_other() -> None:
    found = mistakes_in({"a": {"type": "strng", "from_claim": "a"}, "b": {"type": "string"}})
    assert "parameters.a.type" in found
