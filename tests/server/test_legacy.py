"""The handshake-era revisions, served without sessions."""

from __future__ import annotations

import pytest

from tests.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERSIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


def _hello(version: str) -> dict[str, object]:
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_handshake_agrees_on_the_clients_version(world: World, version: str) -> None:
    reply = await world.legacy("initialize", _hello(version), version=None)
    assert reply.status == 200
    assert reply.result["protocolVersion"] == version
    assert reply.result["serverInfo"]["name"] == "mcp-database-gateway"
    assert "tools" in reply.result["capabilities"]
    assert "Mcp-Session-Id" not in reply.headers


async def test_an_unknown_version_is_answered_with_the_newest_of_the_era(world: World) -> None:
    reply = await world.legacy("initialize", _hello("1999-01-01"), version=None)
    assert reply.result["protocolVersion"] == "2025-11-25"


async def test_initialized_is_acknowledged(world: World) -> None:
    reply = await world.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (reply.status, reply.body) == (202, b"")


@pytest.mark.parametrize("version", [*VERSIONS, None])
async def test_each_post_stands_alone(world: World, version: str | None) -> None:
    tools = await world.legacy("tools/list", version=version)
    assert "customer_by_id" in {tool["name"] for tool in tools.result["tools"]}
    call = await world.legacy("tools/call", {"name": "customer_by_id", "arguments": {"id": 1}}, version=version)
    assert '"id":1' in call.result["content"][0]["text"]
    assert call.result["structuredContent"]["row_count"] == 1
    assert (await world.legacy("ping", version=version)).result == {}


async def test_lists_that_are_empty_are_empty_lists(world: World) -> None:
    assert (await world.legacy("prompts/list")).result == {"prompts": []}
    assert (await world.legacy("resources/list")).result == {"resources": []}
    assert (await world.legacy("resources/templates/list")).result == {"resourceTemplates": []}


async def test_json_rpc_errors_are_http_200(world: World) -> None:
    unknown = await world.legacy("no/such")
    assert (unknown.status, unknown.error["code"]) == (200, -32601)
    tool = await world.legacy("tools/call", {"name": "no_such_tool"})
    assert (tool.status, tool.error["code"]) == (200, -32602)
    malformed = await world.legacy("tools/call", {"arguments": {}})
    assert (malformed.status, malformed.error["code"]) == (200, -32602)


async def test_a_missing_scope_is_still_403(world: World) -> None:
    reply = await world.legacy("tools/call", {"name": "customer_by_id", "arguments": {"id": 1}}, client="stranger")
    assert reply.status == 403
    assert "insufficient_scope" in reply.headers["WWW-Authenticate"]


async def test_a_version_header_that_names_nothing_is_400(world: World) -> None:
    reply = await world.legacy("tools/list", version="not-a-version")
    assert reply.status == 400
