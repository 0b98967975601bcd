"""What the SDK's runner asks of a server: handlers, and what the server says of itself.

The SDK's own `Server` is a web application, too: its module imports an ASGI framework and a web server, which a
gateway would load and never run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.models import InitializationOptions
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from gateway import __version__
from gateway.server.listings import Listings

SERVER_INFO: Final = {"name": "mcp-database-gateway", "title": "MCP Database Gateway", "version": __version__}
_LIST_TTL_MS: Final = 60_000
_PRIVATE: Final = CacheHint(_LIST_TTL_MS, "private")
_PUBLIC: Final = CacheHint(_LIST_TTL_MS, "public")


@dataclass(frozen=True, slots=True)
class Handler:
    """A method: the model of its parameters, and what answers it."""

    params_type: type[BaseModel]
    handler: Callable[[Any, Any], Awaitable[Any]]


class McpServer:
    """A server for `mcp.server.runner`; it asks for no more than these attributes and methods.

    Attributes:
        listings: what it has listed.
        middleware: none; the SDK's own would double our spans.
        cache_hints: how long clients may keep a method's results, and whether for others, too.

    Args:
        instructions: what agents read first.
        handlers: by method.
        tells_of_changes: whether clients of the handshake era hear of changed tools, too.
    """

    middleware: Final = ()
    cache_hints: Final[Mapping[str, CacheHint]] = {
        "server/discover": _PUBLIC,
        "tools/list": _PRIVATE,
        "prompts/list": _PRIVATE,
        "resources/list": _PRIVATE,
        "resources/templates/list": _PRIVATE,
    }

    def __init__(self, instructions: str, handlers: Mapping[str, Handler], *, tells_of_changes: bool) -> None:
        self.listings = Listings()
        self._instructions = instructions
        self._tells_of_changes = tells_of_changes
        own = {
            "ping": Handler(types.RequestParams, self._ping),
            "server/discover": Handler(types.RequestParams, self._discover),
        }
        self._handlers: Final = {**own, **handlers}

    @property
    def server_info_stamp(self) -> dict[str, Any]:
        """Who it is, for the `_meta` of a result; whoever asks may change it."""
        return dict(SERVER_INFO)

    def get_request_handler(self, method: str) -> Handler | None:
        """What answers a method."""
        return self._handlers.get(method)

    def get_notification_handler(self, method: str) -> None:
        """Nothing: notifications never come as far as the runner."""
        return

    def create_initialization_options(self) -> InitializationOptions:
        """What `initialize` tells."""
        return InitializationOptions(
            server_name=SERVER_INFO["name"],
            server_version=SERVER_INFO["version"],
            title=SERVER_INFO["title"],
            capabilities=_capabilities(tells_of_changes=self._tells_of_changes),
            instructions=self._instructions,
        )

    async def _ping(self, ctx: Any, params: types.RequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    async def _discover(self, ctx: Any, params: types.RequestParams) -> types.DiscoverResult:
        """What clients since 2026-07-28 ask first; they may always listen for changes."""
        return types.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=_capabilities(tells_of_changes=True),
            instructions=self._instructions,
        )


def _capabilities(*, tells_of_changes: bool) -> types.ServerCapabilities:
    """Tools that may change; and lists of prompts and resources, which are empty."""
    return types.ServerCapabilities(
        prompts=types.PromptsCapability(list_changed=False),
        resources=types.ResourcesCapability(subscribe=False, list_changed=False),
        tools=types.ToolsCapability(list_changed=tells_of_changes),
    )
