"""Rules over claims, against a naive model."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.rules import RuleSettings
from gateway.tools.parameters import Parameters, compile_parameters
from gateway.tools.rules import Rule, compile_rules, key_of

PARAMETERS: dict[str, dict[str, Any]] = {
    "region": {"type": "string"},
    "number": {"type": "number", "optional": True},
    "flag": {"type": "boolean", "default": True},
    "regions": {"type": "array"},
    "thing": {"type": "object"},
    "tenant": {"type": "string", "from_claim": "tenant"},
}


def _parameters() -> Parameters:
    made, mistakes = compile_parameters(PARAMETERS, None)
    assert made is not None
    assert not mistakes
    return made


TAKES = _parameters()


def rule(**written: Any) -> Rule:
    (made,), mistakes = compile_rules([RuleSettings.model_validate_json(json.dumps(written))], TAKES)
    assert not mistakes
    return made


def mistake(**written: Any) -> tuple[Any, str]:
    made, (found,) = compile_rules([RuleSettings.model_validate_json(json.dumps(written))], TAKES)
    assert made == ()
    return found


class TestOneClaim:
    @pytest.mark.parametrize(
        ("written", "good", "bad"),
        [
            ({"equals": "finance"}, ["finance"], ["Finance", "finance ", "", ["finance"], {"finance": 1}, None]),
            ({"equals": 1}, [1, 1.0], ["1", True, [1], 2, None]),
            ({"equals": 0}, [0, -0.0], [False, "", None, [], {}]),
            ({"equals": True}, [True], ["true", 1, 1.0, [True], None, False]),
            ({"equals": False}, [False], [0, None, "", []]),
            (
                {"contains": "dba"},
                [["dba"], ["x", "dba"]],
                ["dba", "a dba b", {"dba": 1}, [["dba"]], [], None, ["DBA"]],
            ),
            ({"contains": 1}, [[2, 1]], [[True], ["1"], 1]),
            ({"matches": "CC-[0-9]+"}, ["CC-1"], ["CC-", "xCC-1", "CC-1\n", "CC-1x", "CC-\u0661", ["CC-1"], 1, None]),
            ({"matches": "a*"}, ["", "a" * 256], ["a" * 257]),
            ({"matches": "1|11"}, ["1", "11"], [1, 11, "111"]),
            ({"in": ["eu", "us"]}, ["eu", "us"], ["EU", "eu us", ["eu"], None, ""]),
            ({"in": [1, "x", True]}, [1, "x", True], ["1", "True", 2, False]),
        ],
    )
    def test_types_are_never_mixed(self, written: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
        made = rule(claim="a.b", **written)
        for arguments in (None, {}, {"a": {"b": good[0]}}):
            assert [made.holds({"a": {"b": value}}, arguments) for value in good] == [True] * len(good)
            assert [made.holds({"a": {"b": value}}, arguments) for value in bad] == [False] * len(bad)
            assert not made.holds({}, arguments)
            assert not made.holds({"a": [{"b": good[0]}]}, arguments)


class TestBesideAnArgument:
    def test_before_there_is_a_call_it_may_hold(self) -> None:
        made = rule(claim="region", equals_argument="region")
        assert made.holds({"region": "eu"}, None)
        assert not made.holds({}, None)
        assert not made.holds({"region": None}, None)

    @pytest.mark.parametrize("argument", ["us", "EU", "", None, ["eu"], {"eu": 1}, 1, True])
    def test_another_or_no_argument_is_denied(self, argument: Any) -> None:
        made = rule(claim="region", equals_argument="region")
        assert made.holds({"region": "eu"}, {"region": "eu"})
        assert not made.holds({"region": "eu"}, {"region": argument})
        assert not made.holds({"region": "eu"}, {})
        assert not made.holds({}, {"region": argument})
        assert not made.holds({"region": None}, {"region": None})
        assert not made.holds({"region": []}, {"region": []})

    def test_numbers_are_compared_as_they_are_written(self) -> None:
        made = rule(claim="number", equals_argument="number")
        assert made.holds({"number": 0.1}, {"number": Decimal("0.1")})
        assert made.holds({"number": 1}, {"number": Decimal("1.0")})
        assert not made.holds({"number": 1}, {"number": True})
        assert not made.holds({"number": 2**53}, {"number": 2**53 + 1})
        assert not made.holds({"number": "1"}, {"number": 1})
        assert not made.holds({"number": float("nan")}, {"number": Decimal("nan")})
        assert not made.holds({"number": 1}, {"number": Decimal("1e999999")})

    def test_a_float_that_may_have_been_another_number_equals_none(self) -> None:
        made = rule(claim="number", equals_argument="number")
        (claim,) = json.loads("[9007199254740993.0]")
        assert not made.holds({"number": claim}, {"number": 9007199254740992})
        assert not made.holds({"number": claim}, {"number": Decimal("9007199254740993.0")})
        assert made.holds({"number": 9007199254740993}, {"number": 9007199254740993})

    def test_a_default_is_judged_as_what_will_be_bound(self) -> None:
        made = rule(claim="flag", equals_argument="flag")
        assert made.holds({"flag": True}, {})
        assert not made.holds({"flag": False}, {})
        assert made.holds({"flag": False}, {"flag": False})

    def test_every_item_of_a_list_must_be_among_the_claims(self) -> None:
        made = rule(claim="regions", contains_argument="regions")
        claims = {"regions": ["eu", "us"]}
        assert made.holds(claims, {"regions": ["eu"]})
        assert made.holds(claims, {"regions": ["us", "eu", "us"]})
        refused: list[Any] = [["eu", "asia"], [], None, [["eu"]], [None], ["eu"] * 10_001, {}]
        for argument in refused:
            assert not made.holds(claims, {"regions": argument})
        assert not made.holds({"regions": "eu us"}, {"regions": ["eu"]})
        assert not made.holds({"regions": [None, []]}, {"regions": [None]})

    def test_a_scalar_is_one_item(self) -> None:
        made = rule(claim="regions", contains_argument="region")
        assert made.holds({"regions": ["eu"]}, {"region": "eu"})
        assert not made.holds({"regions": ["eu"]}, {"region": "e"})


_SCALARS = st.one_of(st.text(max_size=3), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, -0.5]))
_VALUES = st.recursive(
    _SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=4,
)


def _same(left: Any, right: Any) -> bool:
    """JSON's own equality of scalars, by way of how each is written."""
    if isinstance(left, list | dict | None) or isinstance(right, list | dict | None):
        return False
    if isinstance(left, str | bool) or isinstance(right, str | bool):
        return json.dumps(left) == json.dumps(right)
    return float(left) == float(right)


class TestAgainstAModel:
    @given(_VALUES, _SCALARS.filter(lambda value: not isinstance(value, float)))
    def test_values_of_the_author(self, found: Any, wanted: Any) -> None:
        claims = {"c": found}
        assert rule(claim="c", equals=wanted).holds(claims, {}) is _same(found, wanted)
        assert rule(claim="c", **{"in": [wanted, "other"]}).holds(claims, {}) is (
            _same(found, wanted) or _same(found, "other")
        )
        is_there = isinstance(found, list) and any(_same(item, wanted) for item in found)
        assert rule(claim="c", contains=wanted).holds(claims, {}) is is_there

    @given(_VALUES, _VALUES)
    def test_values_of_the_caller(self, found: Any, argument: Any) -> None:
        equal = rule(claim="c", equals_argument="region").holds({"c": found}, {"region": argument})
        assert equal is _same(found, argument)
        asked = argument if isinstance(argument, list) else [argument]
        is_there = isinstance(found, list) and bool(asked)
        is_there = is_there and all(any(_same(item, each) for item in found) for each in asked)
        assert rule(claim="c", contains_argument="region").holds({"c": found}, {"region": argument}) is is_there

    @given(_SCALARS, _SCALARS)
    def test_keys_are_equal_where_values_are(self, left: Any, right: Any) -> None:
        assert (key_of(left) == key_of(right)) is _same(left, right)


class TestMistakes:
    def test_an_argument_that_callers_do_not_give(self) -> None:
        path, message = mistake(claim="a", equals_argument="regoin")
        assert path == ("allow", 0, "equals_argument")
        assert message == "callers give this tool no such argument; did you mean region?"
        assert mistake(claim="a", equals_argument="tenant")[0] == ("allow", 0, "equals_argument")

    def test_an_argument_that_cannot_be_compared(self) -> None:
        assert "got array" in mistake(claim="a", equals_argument="regions")[1]
        assert "got object" in mistake(claim="a", contains_argument="thing")[1]

    def test_a_pattern_that_is_none_or_may_take_long(self) -> None:
        for pattern in ("(", "(a+)+b"):
            path, message = mistake(claim="a", matches=pattern)
            assert path == ("allow", 0, "matches")
            assert message.startswith("expected a regular expression: ")
