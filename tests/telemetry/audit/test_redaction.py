"""What of an argument is recorded: hashes that can be matched, and nothing that looks personal in clear."""

from __future__ import annotations

import hmac
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.audit.chain import Chain, Keys, Mac
from gateway.telemetry.audit.detectors import looks_personal
from gateway.telemetry.audit.redaction import Redactor, plan
from gateway.tools.parameters import compile_parameters
from tests.telemetry.audit.support import SECRET

REDACTOR = Redactor(Keys(SECRET).arguments)


def recorded(parameters: dict[str, dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a call of a tool with these parameters."""
    compiled, mistakes = compile_parameters(parameters, None)
    assert mistakes == []
    assert compiled is not None
    how = plan("select 1", compiled.schema["properties"], compiled.sensitive, compiled.clear)
    return REDACTOR.arguments(arguments, how)


def is_hash(value: object) -> bool:
    return isinstance(value, str) and value.startswith("hmac:") and len(value) == 5 + 32


@given(st.binary(min_size=32, max_size=64), st.binary(max_size=300))
def test_the_code_is_hmac_sha256(key: bytes, content: bytes) -> None:
    assert Mac(key).digest(content) == hmac.digest(key, content, "sha256").hex()


@given(st.dictionaries(st.text(max_size=9), st.one_of(st.text(), st.integers(), st.floats(allow_nan=False))))
def test_whatever_is_recorded_is_one_line_of_json(fields: dict[str, Any]) -> None:
    line = Chain(Keys(SECRET)).append("tool.call", {"arguments": fields})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["arguments"].keys() == fields.keys()


def test_values_are_hashed_unless_something_else_is_said() -> None:
    kinds: dict[str, Any] = {"s": "text", "i": 7, "n": Decimal("1.5"), "a": ["x"], "o": {"k": "v"}}
    types = {"s": "string", "i": "integer", "n": "number", "a": "array", "o": "object"}
    told = recorded({name: {"type": kind} for name, kind in types.items()}, kinds)
    assert told.keys() == kinds.keys()
    assert all(map(is_hash, told.values()))
    assert len(set(told.values())) == len(told)


def test_equal_values_have_equal_hashes_in_every_tool() -> None:
    one, other = {"id": {"type": "integer"}}, {"customer": {"type": "integer"}}
    assert recorded(one, {"id": 42})["id"] == recorded(other, {"customer": 42})["customer"]
    assert recorded(one, {"id": 42})["id"] == recorded(one, {"id": Decimal("42.0")})["id"]
    assert recorded(one, {"id": 42})["id"] != recorded({"id": {"type": "string"}}, {"id": "42"})["id"]
    assert Redactor(Keys(None).arguments).hash(42) != Redactor(Keys(None).arguments).hash(42)


def test_clear_is_for_booleans_choices_and_where_it_is_said() -> None:
    parameters: dict[str, dict[str, Any]] = {
        "b": {"type": "boolean"},
        "e": {"type": "string", "enum": ["gold", "jane@example.com"]},
        "c": {"type": "string", "audit": "clear"},
        "i": {"type": "integer", "audit": "clear"},
        "n": {"type": "string", "nullable": True},
    }
    clear = {"b": True, "e": "gold", "c": "Berlin", "i": 7, "n": None}
    assert recorded(parameters, clear) == clear
    wrong = {"b": "Jane Doe", "e": "Jane Doe", "c": "Jane Doe " * 40, "i": "jane@example.com"}
    assert all(map(is_hash, recorded(parameters, wrong).values()))
    assert is_hash(recorded(parameters, {"e": "jane@example.com"})["e"])


def test_sensitive_and_unknown_arguments_are_absent() -> None:
    parameters: dict[str, dict[str, Any]] = {
        "pin": {"type": "string", "sensitive": True},
        "id": {"type": "integer"},
    }
    assert recorded(parameters, {"pin": "1234", "id": 1, "jane@example.com": 1}).keys() == {"id"}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string", "audit": "cleer"}, "expected clear"),
        ({"type": "string", "audit": "clear", "sensitive": True}, "never recorded"),
        ({"type": "object", "properties": {"x": {"type": "string", "audit": "clear"}}}, "unknown keyword"),
    ],
)
def test_mistakes_are_told(schema: dict[str, Any], message: str) -> None:
    _, mistakes = compile_parameters({"p": schema}, None)
    assert message in mistakes[0][1]


def test_the_word_is_not_published() -> None:
    compiled, _ = compile_parameters({"p": {"type": "string", "audit": "clear"}}, None)
    assert compiled is not None
    assert "audit" not in compiled.schema["properties"]["p"]


PERSONAL = (
    *("jane.doe@example.com", "JANE@EXAMPLE.CO.UK", "jane%40example.com", "jane (at) example.com", "jürgen@müller.de"),
    *("+49 30 901820", "(212) 555-0123", "2125550123", "0049.170.1234567", "+441632960961"),
    *("4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "5555.5555.5555.4444"),
    *("078-05-1120", "078051120", "111.222.333-96", "2 55 08 14 168 025 38", "850102-2384"),
    *("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "NO9386011117947", "mt84malt011000012345mtlcast001s"),
    *("AB 12 34 56 C", "12345678Z", "X1234567L", "RSSMRA85T10A562S", "ABCPE1234F", "131052-308T"),
)


@given(st.sampled_from(PERSONAL), st.text(" ,.;:abc(", max_size=8), st.text(" ,.;:abc)", max_size=8))
def test_identifiers_are_found_in_any_text(identifier: str, before: str, after: str) -> None:
    assert looks_personal(f"{before} {identifier} {after}")
    assert looks_personal({"deep": [{"er": f"x {identifier}"}]})
    assert looks_personal({identifier: 1})


@pytest.mark.parametrize(
    "value",
    [
        "4111\u200b1111\u200b1111\u200b1111",
        "\uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11",
        "\u0664\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661",
        "jane\uff20example.com",
        ["4111", "1111", "1111", "1111"],
        4111111111111111,
        78051120_0,
        Decimal(2125550123),
        {"a": "jane", "b": ["x"] * 2000},
    ],
)
def test_disguises_do_not_help(value: Any) -> None:
    assert looks_personal(value)


@pytest.mark.parametrize(
    "value",
    [
        *("gold", "Berlin", "order 12", "2026-11-22", "2026-11-22T10:20:30Z", "A-17", "1.2.3", "EUR", "north-west"),
        *("123e4567-e89b-42d3-a456-426614174000", "Q3 2026"),
        *(42, 123456, True, None, 3.14159, [], ["2026-11-22", "2026-12-24"]),
    ],
)
def test_ordinary_values_stay_in_clear(value: Any) -> None:
    assert not looks_personal(value)
