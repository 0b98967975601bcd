"""The strict parser: exact numbers, and nothing that two readers could read differently."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProtocolError
from gateway.server.jsonrpc import _quickly, _strictly, error_bytes, parse, result_bytes
from gateway.strict_json import MAX_DEPTH

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(st.characters(blacklist_categories=["Cs"]))
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=12,
)


def _write(value: Any) -> str:
    """JSON with every digit of a Decimal."""
    match value:
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{_write(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_write, value)) + "]"
        case Decimal():
            return f"{value:f}" if "." in f"{value:f}" else f"{value:f}.0"
        case _:
            return json.dumps(value)


@given(_VALUES)
def test_arguments_arrive_digit_for_digit(value: Any) -> None:
    body = f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"value":{_write(value)}}}}}'
    params = parse(body.encode()).params
    assert params is not None
    assert params["value"] == value


@given(st.recursive(_SCALARS | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_the_quick_reading_is_the_strict_one(value: Any) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        for is_ascii in (True, False):
            text = json.dumps(value, separators=separators, ensure_ascii=is_ascii, default=float)
            body = text.encode("utf-8", "surrogatepass")
            quick = _quickly(body)
            if quick is not None:
                strict = _strictly(body)
                assert quick == strict
                assert repr(quick) == repr(strict)


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":1}', b"[18446744073709551616]", b"[1.0]", b"[1e400]", b'["\\ud800"]', b"[NaN]"]
)
def test_what_orjson_forgives_is_not_read_quickly(body: bytes) -> None:
    assert _quickly(body) is None


def test_what_clients_send_is_read_quickly() -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "t", "arguments": {"a": [None, "\u00e9"]}},
    }
    assert _quickly(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()) == body


@given(st.binary(max_size=200))
def test_no_bytes_escape_as_another_error(body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse(body)


@pytest.mark.parametrize(
    "raw",
    [
        '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1,"a":1}}',
        '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":Infinity}}',
        '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1e2000}}',
        '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\udead"}}',
        '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":' + "9" * 5000 + "}}",
        '{"jsonrpc":"2.0","id":1,"method":"m","params":' + '{"a":' * 5000 + "1" + "}" * 5001,
    ],
)
def test_what_readers_disagree_about_is_refused(raw: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(raw.encode())
    assert caught.value.code == -32700


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[0,{"b":1,"a":', "}]")])
def test_depth_is_bounded(opening: str, closing: str) -> None:
    # The envelope and its params are two levels.
    levels = (MAX_DEPTH - 2) // len(closing)
    body = '{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{0}1{1}}}}}'
    assert parse(body.format(opening * levels, closing * levels).encode()).method == "m"
    for more in (levels + 1, 500, 2000, 100_000):
        with pytest.raises(ProtocolError, match="64 levels") as caught:
            parse(body.format(opening * more, closing * more).encode())
        assert caught.value.code == -32700


@pytest.mark.parametrize("more", [65, 900, 1100, 5000])
def test_a_deep_body_is_called_so_whatever_else_it_holds(more: int) -> None:
    with pytest.raises(ProtocolError, match="64 levels"):
        parse(b'{"jsonrpc":"2.0","method":"m","params":{"b":"\\u00e9","a":' + b"[" * more + b"]" * more + b"}}")


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert parse(b'{"jsonrpc":"2.0","method":"m","params":{"a":[' + b"[[]]," * 1000 + b'"[[["]}}').method == "m"


@pytest.mark.parametrize(
    "raw",
    [
        *(b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b'{"a":"\\udc00\\ud800"}'),
        *(b'{"a":"\xff"}', b'{"a":"\xc0\x80"}', b'{"a":"\xed\xa0\x80"}', b"\xef\xbb\xbf{}", b"{}{}", b"", b"{'a':1}"),
        *(b'{"a":01}', b'{"a":1,}', b'{"a":"\n"}', b"\xff\xfe{\x00}\x00"),
    ],
)
def test_what_is_not_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(raw)
    assert caught.value.code == -32700


def test_escaped_pairs_are_characters() -> None:
    message = parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\ud83d\\ude00"}}')
    assert message.params == {"a": "\U0001f600"}


@given(st.integers() | st.text(st.characters(blacklist_categories=["Cs"])))
def test_ids_are_echoed(identifier: int | str) -> None:
    assert json.loads(result_bytes(identifier, {}))["id"] == identifier
    assert json.loads(error_bytes(identifier, -1, "x"))["id"] == identifier
