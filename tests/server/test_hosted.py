"""Our server says what the SDK's own would."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from gateway.server.dispatch import DispatchContext
from gateway.server.hosted import SERVER_INFO, Handler, McpServer

METHODS = ("ping", "initialize", "server/discover", "tools/list", "prompts/list", "logging/setLevel", "nonsense")


async def _tools(ctx: Any, params: types.PaginatedRequestParams) -> dict[str, Any]:
    return {"tools": []}


async def _nothing(ctx: Any, params: Any) -> dict[str, Any]:
    return {"prompts": [], "resources": []}


class Theirs(Server[Any]):
    """The SDK's server, which tells of changed tools to clients that listen."""

    def get_capabilities(self, *args: Any, **named: Any) -> types.ServerCapabilities:
        found = super().get_capabilities(*args, **named)
        if named.get("protocol_version") in MODERN_PROTOCOL_VERSIONS:
            found.tools = types.ToolsCapability(list_changed=True)
        return found

    def create_initialization_options(self, *args: Any, **named: Any) -> Any:
        return super().create_initialization_options(NotificationOptions(tools_changed=True))


def theirs() -> Any:
    kind: Any = Theirs
    server = kind(
        **SERVER_INFO,
        instructions="Ask.",
        cache_hints=McpServer.cache_hints,
        on_list_tools=_tools,
        on_list_prompts=_nothing,
        on_list_resources=_nothing,
    )
    server.middleware.clear()
    return server


def ours() -> Any:
    paged = types.PaginatedRequestParams
    handlers = {
        "tools/list": Handler(paged, _tools),
        "prompts/list": Handler(paged, _nothing),
        "resources/list": Handler(paged, _nothing),
    }
    return McpServer("Ask.", handlers, tells_of_changes=True)


async def answer(server: Any, method: str, version: str) -> Any:
    params: dict[str, Any] = {}
    if method == "initialize":
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
    if method == "logging/setLevel":
        params = {"level": "info"}
    if version in MODERN_PROTOCOL_VERSIONS:
        meta = {types.PROTOCOL_VERSION_META_KEY: version, types.CLIENT_CAPABILITIES_META_KEY: {}}
        params = {**params, "_meta": meta}
    outlet: Any = None
    context = DispatchContext(1, ServerMessageMetadata(), outlet)
    try:
        return await ServerRunner(server, Connection.from_envelope(version, None, None), None).on_request(
            context, method, params
        )
    except MCPError as error:
        return error.error


@pytest.mark.parametrize("version", KNOWN_PROTOCOL_VERSIONS)
@pytest.mark.parametrize("method", METHODS)
async def test_the_runner_answers_for_ours_as_for_the_sdks(method: str, version: str) -> None:
    assert await answer(ours(), method, version) == await answer(theirs(), method, version)
