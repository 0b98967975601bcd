"""The handlers that the MCP SDK's runner calls, and the way past it. Nothing else in the house knows the SDK.

The SDK judges every request by the client's revision and runs all methods but
one: a tool call goes straight from its judge to the tool. The SDK's models
would turn the result's exact decimals into text, and their passes over it
cost as much as the rest of the call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import mcp_types as types
import orjson
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import SERVER_INFO_META_KEY
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from gateway.context import Call
from gateway.errors import ProtocolError
from gateway.server import judge, listen
from gateway.server.admission import Admission
from gateway.server.background import Background
from gateway.server.dispatch import DispatchContext
from gateway.server.hosted import SERVER_INFO, Handler, McpServer
from gateway.server.jsonrpc import Message
from gateway.server.outlet import Outlet
from gateway.server.snapshot import Snapshot
from gateway.telemetry import tracing
from gateway.tools.audited import audited
from gateway.tools.catalog import Catalog, Tool
from gateway.tools.execute import execute
from gateway.tools.results import ToolResult

INVALID_PARAMS: Final = -32602
_MAX_NAME: Final = 256
_INSTRUCTIONS: Final = (
    "Each tool runs one fixed SQL statement. Results are {rows, row_count, truncated}; "
    "when truncated is true, narrow the query with the tool's parameters."
)


@dataclass(slots=True)
class Exchange:
    """One JSON-RPC request in the works: what handlers read, and what they leave for the transport.

    Attributes:
        call: who asks, and until when.
        snapshot: the configuration that this request began with.
        catalog: the tools of the door that it came through.
        outlet: where notifications go.
        background: where a write goes on whose client has left.
        admission: what the client may call, and how much at once.
        listening: where the client may be told of changes.
        is_modern: whether the client speaks 2026-07-28 or later.
        result: a tool call's outcome, once there is one.
        tool: the tool's name, once it is known to exist.
        address: the client's.
        is_judged: whether the request is known to be one of its revision.
    """

    call: Call
    snapshot: Snapshot
    catalog: Catalog
    outlet: Outlet
    background: Background
    admission: Admission
    listening: listen.Listening
    is_modern: bool
    result: ToolResult | None = None
    tool: str = ""
    address: str = ""
    is_judged: bool = False
    _called: Tool | None = None

    def require(self, name: str, arguments: Mapping[str, Any]) -> Tool:
        """The tool that is called, decided once; see `Catalog.require` for what this raises."""
        if self._called is None:
            self._called = self.catalog.require(name, self.call.principal, arguments)
        return self._called

    @property
    def writes(self) -> bool:
        """Whether it is the call of a tool that writes."""
        return self._called is not None and self._called.statement.writes


Context = ServerRequestContext[Snapshot, Exchange]


async def _list_tools(ctx: Context, params: types.PaginatedRequestParams) -> dict[str, Any]:
    """The tools that the caller may call; described with the columns that are known by now."""
    _refuse_cursor(params)
    exchange = _exchange(ctx)
    snapshot = exchange.snapshot
    visible = exchange.catalog.visible(exchange.call.principal)
    described = [tool.describe(snapshot.sources[tool.source].shapes.get(tool.name)) for tool in visible]
    return {"resultType": "complete", "tools": described}


async def _call_tool(exchange: Exchange, params: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Run a tool; a failed call is a result, too."""
    call, arguments = exchange.call, params.get("arguments") or {}
    tool = exchange.require(params["name"], arguments)
    exchange.tool = tool.name
    tracing.current().enter(params.get("_meta"))
    started = time.perf_counter()
    work = _run(exchange, tool, arguments)
    must_finish = exchange.writes and not exchange.is_modern
    try:
        result = await (exchange.background.see_through(work) if must_finish else work)
    except asyncio.CancelledError:
        call.mark("tool", started, "cancelled", version)
        raise
    call.mark("tool", started, result.code, version)
    exchange.result = result
    return _envelope(result, version)


async def _run(exchange: Exchange, tool: Tool, arguments: Mapping[str, Any]) -> ToolResult:
    """The call, counted for as long as it runs, and recorded: also when its client has left."""
    call, snapshot = exchange.call, exchange.snapshot
    source = snapshot.sources[tool.source]
    run = partial(execute, call, tool, source, arguments)
    async with exchange.admission.running(call, tool.name):
        return await audited(snapshot.audit, call, exchange.address, tool, source, arguments, run)


def _empty_list(key: str) -> Callable[[Context, types.PaginatedRequestParams], Awaitable[dict[str, Any]]]:
    async def handler(ctx: Context, params: types.PaginatedRequestParams) -> dict[str, Any]:
        _refuse_cursor(params)
        return {"resultType": "complete", key: []}

    return handler


async def _read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> dict[str, Any]:
    """There are none; said as the specification says it of one that is missing."""
    uri = str(params.uri)[:_MAX_NAME]
    raise ProtocolError(INVALID_PARAMS, "There is no such resource; this server has tools only.", data={"uri": uri})


async def _get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> dict[str, Any]:
    """There are none."""
    raise ProtocolError(INVALID_PARAMS, "There is no such prompt; this server has tools only.")


_EMPTY_LISTS: Final = {
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


def build_server(about: str = "", *, tells_of_changes: bool = False) -> McpServer:
    """The server that the SDK's runner drives; one for each door of a configuration.

    Args:
        about: what is told of the door before anything else.
        tells_of_changes: whether clients of the handshake era hear of changed tools, too.
    """
    handlers = {
        "tools/list": Handler(types.PaginatedRequestParams, _list_tools),
        **{method: Handler(types.PaginatedRequestParams, _empty_list(key)) for method, key in _EMPTY_LISTS.items()},
        "resources/read": Handler(types.ReadResourceRequestParams, _read_resource),
        "prompts/get": Handler(types.GetPromptRequestParams, _get_prompt),
    }
    return McpServer(f"{about} {_INSTRUCTIONS}".lstrip(), handlers, tells_of_changes=tells_of_changes)


def _exchange(ctx: Context) -> Exchange:
    if ctx.request is None:
        raise RuntimeError("a handler was called without its exchange")
    return ctx.request


def _refuse_cursor(params: types.PaginatedRequestParams) -> None:
    if params.cursor is not None:
        raise ProtocolError(INVALID_PARAMS, "Unknown cursor: lists come whole, on one page.")


def _envelope(result: ToolResult, version: str) -> dict[str, Any]:
    """The tool result as the client's revision has it, rows in place."""
    content = [{"type": "text", "text": text} for text in (result.text, *result.hints)]
    envelope: dict[str, Any] = {"content": content, "isError": result.is_error}
    if result.structured is not None:
        envelope["structuredContent"] = orjson.Fragment(result.structured)
    if version in MODERN_PROTOCOL_VERSIONS:
        envelope["resultType"] = "complete"
        envelope["_meta"] = {**result.meta, SERVER_INFO_META_KEY: SERVER_INFO}
    elif result.meta:
        envelope["_meta"] = result.meta
    return envelope


async def _listed(server: McpServer, exchange: Exchange, message: Message, version: str) -> orjson.Fragment:
    """The result of `tools/list`, made once for each view of the tools, and anew when a table's shape changes."""
    validate_client_request(message.method, version, message.params)
    shapes = tuple(source.shapes_version for source in exchange.snapshot.sources.values())
    key = (version, exchange.catalog.view(exchange.call.principal), shapes)
    kept = server.listings.get(key)
    if kept is None:
        kept = orjson.dumps(await _dispatch(server, exchange, message, version))
        server.listings.put(key, kept)
    return orjson.Fragment(kept)


async def _dispatch(server: McpServer, exchange: Exchange, message: Message, version: str) -> dict[str, Any]:
    """What the SDK's `serve_one` does, without unwinding the connection's exit stack: nothing of ours is put on it.

    What clients say of themselves was judged with the request and is not used.
    """
    hosted: Any = server  # typed as the SDK's `Server`, and used as far as `McpServer` says
    runner = ServerRunner(hosted, Connection.from_envelope(version, None, None), exchange.snapshot)
    context = DispatchContext(message.id or 0, ServerMessageMetadata(request_context=exchange), exchange.outlet)
    return await runner.on_request(context, message.method, message.params)


async def handle(server: McpServer, exchange: Exchange, message: Message, version: str) -> Any:
    """Judge one request by the client's revision and run it; the result as orjson writes it.

    Raises:
        GatewayError: a failure with a name; what the SDK refused comes as ProtocolError, in its words.
    """
    try:
        if message.method == judge.CALL:
            params = message.params or {}
            if not exchange.is_judged and not judge.is_plain(version, params):
                validate_client_request(message.method, version, message.params)
            return await _call_tool(exchange, params, version)
        if message.method == listen.METHOD and version in MODERN_PROTOCOL_VERSIONS:
            validate_client_request(message.method, version, message.params)
            principal, settings = exchange.call.principal, exchange.snapshot.settings
            about = {SERVER_INFO_META_KEY: SERVER_INFO}
            return await exchange.listening.serve(principal, exchange.outlet, message, settings, about)
        if message.method == "tools/list" and "cursor" not in (message.params or {}):
            return await _listed(server, exchange, message, version)
        return await _dispatch(server, exchange, message, version)
    except MCPError as error:
        raise ProtocolError(error.error.code, error.error.message, data=error.error.data) from error
    except ValidationError as error:
        detail = f"{error.error_count()} invalid field(s)"
        raise ProtocolError(INVALID_PARAMS, "Invalid request parameters", detail=detail) from None
