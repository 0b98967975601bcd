"""The SDK's own client, in both eras, against the real thing."""

from __future__ import annotations

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from gateway.net.agent import AgentError, connect
from tests.world import MODERN, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", MODERN), (MODERN, MODERN)])
async def test_list_call_and_progress(world: World, mode: str, version: str) -> None:
    token = await world.credentials().token()
    stages: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        stages.append(message or "")

    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http,
        Client(streamable_http_client(world.gateway.url, http_client=http), mode=mode) as client,
    ):
        assert client.protocol_version == version
        listed = await client.list_tools()
        assert "customer_by_id" in [tool.name for tool in listed.tools]
        # The client validates the structured content against the output schema that it was given.
        result = await client.call_tool("customer_by_id", {"id": 3}, progress_callback=on_progress)
        assert not result.is_error
        assert result.structured_content["row_count"] == 1
        assert len(stages) >= 3
        # An x-mcp-header parameter is mirrored by the client and checked by the gateway.
        customers = await client.call_tool("customers_in", {"country": "DE"})
        assert customers.structured_content["truncated"] is True
        refused = await client.call_tool("customer_by_id", {"id": "three"})
        assert refused.is_error
        assert isinstance(refused.content[0], TextContent)


async def test_the_agent_tells_why_it_was_refused(world: World) -> None:
    with pytest.raises(AgentError, match=r"HTTP 403: .*customers:read"):
        async with connect(world.gateway.url, world.credentials("stranger")) as client:
            await client.call_tool("customer_by_id", {"id": 3})
    with pytest.raises(AgentError, match="HTTP 401"):
        async with connect(world.gateway.url, _NoToken()):
            pass


class _NoToken:
    async def token(self) -> str:
        return ""
