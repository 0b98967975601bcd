"""MCP 2026-07-28 over plain HTTP: every rule of the stateless transport."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.world import MODERN, World, envelope, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALL = {"name": "customer_by_id", "arguments": {"id": 42}}


async def test_a_call_returns_rows_as_structure_and_as_the_same_text(world: World) -> None:
    reply = await world.modern("tools/call", CALL)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    structured = reply.result["structuredContent"]
    assert structured == {
        "rows": [{"id": 42, "name": structured["rows"][0]["name"], "email": structured["rows"][0]["email"]}],
        "row_count": 1,
        "truncated": False,
    }
    assert json.loads(reply.result["content"][0]["text"]) == structured
    assert reply.result["isError"] is False
    assert reply.result["resultType"] == "complete"


async def test_every_result_names_the_server(world: World) -> None:
    for method in ("server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        reply = await world.modern(method)
        assert reply.status == 200, reply.body
        info = reply.result["_meta"]["io.modelcontextprotocol/serverInfo"]
        assert info["name"] == "mcp-database-gateway"
        assert reply.result["resultType"] == "complete"


async def test_lists_carry_cache_hints_and_tools_are_private(world: World) -> None:
    tools = (await world.modern("tools/list")).result
    assert tools["cacheScope"] == "private"
    assert tools["ttlMs"] > 0
    discover = (await world.modern("server/discover")).result
    assert discover["supportedVersions"] == [MODERN]
    assert "tools" in discover["capabilities"]


async def test_the_list_is_sorted_and_holds_only_what_the_caller_may_call(world: World) -> None:
    names = [tool["name"] for tool in (await world.modern("tools/list")).result["tools"]]
    assert names == ["count_slowly", "customer_by_id", "customers_in", "orders_total"]
    assert (await world.modern("tools/list", client="stranger")).result["tools"] == []


async def test_a_listed_tool_is_described_whole(world: World) -> None:
    tools = {tool["name"]: tool for tool in (await world.modern("tools/list")).result["tools"]}
    tool = tools["customer_by_id"]
    assert tool["title"] == "Customer by number"
    assert tool["inputSchema"]["required"] == ["id"]
    assert tool["inputSchema"]["additionalProperties"] is False
    assert tool["annotations"]["readOnlyHint"] is True
    row = tool["outputSchema"]["properties"]["rows"]["items"]["properties"]
    assert set(row) == {"id", "name", "email"}
    assert tools["customers_in"]["inputSchema"]["properties"]["country"]["x-mcp-header"] == "Country"


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
async def test_a_missing_envelope_key_is_400(world: World, missing: str) -> None:
    body = envelope("tools/list")
    del body["params"]["_meta"][f"io.modelcontextprotocol/{missing}"]
    reply = await world.send(body, headers=routing(body))
    assert (reply.status, reply.error["code"]) == (400, -32602)
    assert missing in reply.error["message"]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("Mcp-Method", "tools/list"),
        ("Mcp-Method", None),
        ("Mcp-Name", "orders_total"),
        ("Mcp-Name", None),
        ("MCP-Protocol-Version", "2027-01-01"),
    ],
)
async def test_a_header_that_differs_from_the_body_is_400(world: World, change: str, value: str | None) -> None:
    body = envelope("tools/call", CALL)
    headers = routing(body)
    if value is None:
        del headers[change]
    else:
        headers[change] = value
    reply = await world.send(body, headers=headers)
    assert (reply.status, reply.error["code"]) == (400, -32020)


async def test_a_duplicated_routing_header_is_400(world: World) -> None:
    body = envelope("tools/call", CALL)
    reply = await world.send(body, headers=[*routing(body).items(), ("Mcp-Name", "customer_by_id")])
    assert (reply.status, reply.error["code"]) == (400, -32020)


async def test_a_header_value_may_be_base64(world: World) -> None:
    body = envelope("tools/call", CALL)
    encoded = base64.b64encode(b"customer_by_id").decode()
    reply = await world.send(body, headers={**routing(body), "Mcp-Name": f"=?base64?{encoded}?="})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("header", "status"), [("DE", 200), (None, 400), ("FR", 400), ("=?base64?REU=?=", 200), ("=?base64?!?=", 400)]
)
async def test_a_parameter_header_must_agree_with_its_argument(world: World, header: str | None, status: int) -> None:
    headers = {"Mcp-Param-Country": header} if header else {}
    reply = await world.modern("tools/call", {"name": "customers_in", "arguments": {"country": "DE"}}, headers=headers)
    assert reply.status == status
    if status == 400:
        assert reply.error["code"] == -32020


async def test_an_unknown_version_names_the_supported_ones(world: World) -> None:
    body = envelope("tools/list", meta={"io.modelcontextprotocol/protocolVersion": "2031-01-01"})
    reply = await world.send(body, headers={**routing(body), "MCP-Protocol-Version": "2031-01-01"})
    assert (reply.status, reply.error["code"]) == (400, -32022)
    assert reply.error["data"] == {"supported": [MODERN], "requested": "2031-01-01"}


async def test_an_unknown_method_is_404(world: World) -> None:
    reply = await world.modern("no/such")
    assert (reply.status, reply.error["code"]) == (404, -32601)
    for removed in ("initialize", "ping"):
        assert (await world.modern(removed)).error["code"] == -32601


async def test_an_unknown_tool_is_invalid_params(world: World) -> None:
    reply = await world.modern("tools/call", {"name": "no_such_tool", "arguments": {}})
    assert (reply.status, reply.error["code"]) == (400, -32602)


async def test_a_missing_scope_is_403_and_names_every_scope(world: World) -> None:
    reply = await world.modern("tools/call", CALL, client="stranger")
    assert reply.status == 403
    challenge = reply.headers["WWW-Authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="customers:read"' in challenge
    assert "/.well-known/oauth-protected-resource/mcp" in challenge


async def test_a_notification_is_acknowledged(world: World) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    reply = await world.send(body, headers={"MCP-Protocol-Version": MODERN})
    assert (reply.status, reply.body) == (202, b"")


@pytest.mark.parametrize(
    "body",
    [
        [envelope("tools/list")],
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "1.0", "id": 1, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": None, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": True, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []},
        "text",
    ],
)
async def test_a_body_that_is_not_one_request_is_400(world: World, body: Any) -> None:
    reply = await world.send(body, headers={"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"})
    assert (reply.status, reply.error["code"]) == (400, -32600)
    assert reply.message["id"] is None


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a": NaN}', b'{"a":1,"a":2}', b"\xff", b'"\\ud800"', b"[" * 100_000])
async def test_a_body_that_is_not_json_is_400(world: World, raw: bytes) -> None:
    reply = await world.send(None, raw=raw)
    assert (reply.status, reply.error["code"]) == (400, -32700)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_other_methods_are_405(world: World, method: str) -> None:
    reply = await world.send({}, method=method)
    assert reply.status == 405
    assert reply.headers["Allow"] == "POST"


async def test_sessions_are_neither_minted_nor_heeded(world: World) -> None:
    reply = await world.modern("tools/list", headers={"Mcp-Session-Id": "x", "Last-Event-ID": "7"})
    assert reply.status == 200
    assert "Mcp-Session-Id" not in reply.headers


@pytest.mark.parametrize("identifier", ["text", 0, -5, 2**70])
async def test_the_id_comes_back_as_it_was(world: World, identifier: str | int) -> None:
    body = envelope("tools/list", identifier=identifier)
    assert (await world.send(body, headers=routing(body))).message["id"] == identifier


async def test_a_resource_or_prompt_that_is_not_there_is_invalid_params(world: World) -> None:
    body = envelope("resources/read", {"uri": "test://nothing"})
    reply = await world.send(body, headers={**routing(body), "Mcp-Name": "test://nothing"})
    assert (reply.status, reply.error["code"], reply.error["data"]) == (400, -32602, {"uri": "test://nothing"})
    assert (await world.modern("prompts/get", {"name": "nothing"})).error["code"] == -32602


async def test_a_bad_cursor_is_invalid_params(world: World) -> None:
    assert (await world.modern("tools/list", {"cursor": "7"})).error["code"] == -32602


async def test_bad_arguments_are_a_result_that_a_model_can_act_on(world: World) -> None:
    reply = await world.call("customer_by_id", {"id": -1, "nmae": "x"})
    assert reply.status == 200
    assert reply.result["isError"] is True
    text = reply.result["content"][0]["text"]
    assert "id" in text
    assert "nmae" in text
    failure = reply.result["_meta"]["mcp-database-gateway/error"]
    assert failure["code"] == "invalid_arguments"
    assert failure["retryable"] is False
    assert failure["correlation_id"] == reply.headers["X-Request-ID"]
    assert "structuredContent" not in reply.result


async def test_truncation_is_said_with_a_hint(world: World) -> None:
    reply = await world.modern(
        "tools/call", {"name": "customers_in", "arguments": {"country": "DE"}}, headers={"Mcp-Param-Country": "DE"}
    )
    assert reply.result["structuredContent"]["truncated"] is True
    assert reply.result["structuredContent"]["row_count"] == 5
    assert "country" in reply.result["content"][1]["text"]
