"""Whatever is sent to `/mcp`, the answer is well-formed, below 500 and in time, and is one line of log."""

from __future__ import annotations

import asyncio
import json
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.logged import Accounts, logged
from tests.tally import LINES
from tests.world import MODERN, Reply, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
METHODS = st.sampled_from(
    ["tools/list", "tools/call", "server/discover", "initialize", "ping", "prompts/get", "logging/setLevel", "x"]
)
_META = st.fixed_dictionaries(
    {},
    optional={
        "io.modelcontextprotocol/protocolVersion": st.sampled_from([MODERN, "2025-11-25", "x"]) | JSON,
        "io.modelcontextprotocol/clientCapabilities": st.just({}) | JSON,
        "progressToken": JSON,
        "traceparent": JSON,
    },
)
_PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "_meta": _META | JSON,
        "name": st.sampled_from(["customer_by_id", "customers_in", "nope"]) | JSON,
        "arguments": st.fixed_dictionaries({}, optional={"id": JSON, "country": JSON, "x": JSON}) | JSON,
        "cursor": JSON,
        "protocolVersion": JSON,
    },
)
BODIES = (
    st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0")},
        optional={"id": st.integers() | TEXT | JSON, "method": METHODS | TEXT, "params": _PARAMS | JSON},
    )
    | JSON
)
VALUES = st.text(string.ascii_letters + string.digits + " =?/.;,\"'-", max_size=20)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "MCP-Protocol-Version": st.sampled_from([MODERN, "2025-11-25", "2024-11-05"]) | VALUES,
        "Mcp-Method": METHODS | VALUES,
        "Mcp-Name": st.just("customer_by_id") | VALUES,
        "Mcp-Param-Country": VALUES,
        "Accept": st.sampled_from(["application/json", "text/event-stream", "*/*"]) | VALUES,
        "X-Request-ID": VALUES,
        "traceparent": VALUES,
    },
)


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    with logged() as log:
        accounts = Accounts(log)
        yield accounts
        LINES.append(f"fuzzed JSON and bytes: {accounts}")


def _check(reply: Reply, accounts: Accounts) -> None:
    accounts.requests += 1
    accounts.check()
    assert reply.status < 500, reply.body
    assert reply.headers["X-Request-ID"]
    if reply.status == 202:
        assert reply.body == b""
        return
    message = reply.message
    assert message["jsonrpc"] == "2.0"
    assert ("result" in message) != ("error" in message)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(body=BODIES, headers=HEADERS)
async def test_any_json_is_answered(world: World, accounts: Accounts, body: Any, headers: dict[str, str]) -> None:
    async with asyncio.timeout(20):
        reply = await world.send(body, headers=headers)
    _check(reply, accounts)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(raw=st.binary(max_size=300) | st.binary(max_size=30).map(lambda tail: json.dumps({"id": 1}).encode() + tail))
async def test_any_bytes_are_answered(world: World, accounts: Accounts, raw: bytes) -> None:
    async with asyncio.timeout(20):
        reply = await world.send(None, raw=raw)
    _check(reply, accounts)
    assert reply.status == 400
