"""The quick yes: what it lets through is what the SDK lets through."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request, find_duplicated_routing_header
from mcp_types.methods import validate_client_request
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import ValidationError

from gateway.server.judge import CALL, MAX_META, agrees, is_plain
from tests.world import MODERN, envelope, routing

_VERSION = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_INFO = "io.modelcontextprotocol/clientInfo"
_ANYTHING: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just({}) | st.just([]) | st.just({"x": 1})
)
_META = st.dictionaries(st.sampled_from(["progressToken", "traceparent", "note", _INFO]), _ANYTHING, max_size=3)
_MODERN_META = st.builds(
    lambda meta, own: meta | own,
    _META,
    st.fixed_dictionaries(
        {}, optional={_VERSION: st.sampled_from([MODERN, "1999-01-01", 1]), _CAPABILITIES: _ANYTHING}
    ),
)
_PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["tool", "", 1, None]),
        "arguments": st.sampled_from([{}, {"a": Decimal("1.5")}, None, [], "x"]),
        "_meta": st.none() | _META | _MODERN_META | st.just([]),
        "task": _ANYTHING,
        "requestState": _ANYTHING,
    },
)


def _judged(version: str, params: dict[str, Any]) -> bool:
    """What the SDK says."""
    if version in MODERN_PROTOCOL_VERSIONS:
        route = classify_inbound_request({"method": CALL, "params": params})
        if isinstance(route, InboundLadderRejection) or route.protocol_version != version:
            return False
    try:
        validate_client_request(CALL, version, params)
    except (KeyError, ValueError, ValidationError):
        return False
    return True


@given(st.sampled_from([*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS, "1999-01-01"]), _PARAMS)
def test_a_yes_is_the_sdks_yes(version: str, params: dict[str, Any]) -> None:
    if is_plain(version, params):
        assert _judged(version, params)


def _call(**meta: Any) -> dict[str, Any]:
    params: dict[str, Any] = envelope(CALL, {"name": "tool", "arguments": {"id": 1}}, meta=meta)["params"]
    return params


def test_what_clients_send_is_plain() -> None:
    assert is_plain(MODERN, _call())
    assert is_plain(MODERN, _call(progressToken=1, traceparent="00-0-0-00"))
    for version in HANDSHAKE_PROTOCOL_VERSIONS:
        assert is_plain(version, {"name": "tool", "arguments": {}})
        assert is_plain(version, {"name": "tool", "arguments": {}, "_meta": {"progressToken": "p"}})


@pytest.mark.parametrize(
    "meta",
    [
        {"progressToken": True},
        {"progressToken": {}},
        {"note": Decimal("0.1")},
        {"note": "x" * MAX_META},
        {_CAPABILITIES: 1},
    ],
    ids=["boolean token", "token of an object", "fraction", "long", "capabilities"],
)
def test_what_is_unusual_is_left_to_the_sdk(meta: dict[str, Any]) -> None:
    assert not is_plain(MODERN, _call(**meta))


def _headers(body: dict[str, Any], *more: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([*routing(body).items(), *more]))


def test_headers_agree_only_once_each_and_word_for_word() -> None:
    body = envelope(CALL, {"name": "tool", "arguments": {}})
    assert agrees(_headers(body), body["params"])
    for name, value in routing(body).items():
        doubled, other = _headers(body, (name.upper(), value)), CIMultiDict(routing(body))
        assert find_duplicated_routing_header(doubled.items()) is not None
        assert not agrees(doubled, body["params"])
        other[name] = value + "x"
        assert not agrees(CIMultiDictProxy(other), body["params"])
        del other[name]
        assert not agrees(CIMultiDictProxy(other), body["params"])


def test_an_encoded_name_is_left_to_the_sdk() -> None:
    body = envelope(CALL, {"name": "=?base64?dG9vbA==?=", "arguments": {}})
    assert json.dumps(body)
    assert not agrees(_headers(body), body["params"])
