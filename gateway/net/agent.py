"""An MCP client with a bearer token: what `gateway call` and the demo speak with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import httpx2
import orjson
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from gateway.errors import GatewayError

_TIMEOUT: Final = httpx2.Timeout(30.0, read=300.0)
_REFUSALS: Final = frozenset({401, 403, 413, 421, 429, 503})


class AgentError(GatewayError):
    """The server refused, or could not be reached; the message carries the server's own reason."""


class TokenSource(Protocol):
    """Where the agent's tokens come from."""

    async def token(self) -> str:
        """A token that is good now; "" for none."""


class FixedToken:
    """A token that somebody else obtained."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str:
        """The token, as it was given."""
        return self._token


class _Bearer(httpx2.Auth):
    """Puts a token on each request, and remembers why the server refused one."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self.refusal = ""

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """One request with the token of the moment (RFC 6750 section 2.1)."""
        if token := await self._source.token():
            request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code in _REFUSALS:
            await response.aread()
            self.refusal = f"HTTP {response.status_code}: {_reason(response)}"


def _reason(response: httpx2.Response) -> str:
    try:
        return str(orjson.loads(response.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


@asynccontextmanager
async def connect(url: str, source: TokenSource) -> AsyncIterator[Client]:
    """A connected MCP client, at the newest protocol revision that both sides speak.

    Raises:
        AgentError: the server refused a request inside the block, or the connection failed.
    """
    bearer = _Bearer(source)
    try:
        # The environment's proxies are not for a gateway that is usually on this machine or in this cluster.
        async with (
            httpx2.AsyncClient(auth=bearer, timeout=_TIMEOUT, trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield client
    except BaseExceptionGroup as group:
        raise _named(group, bearer.refusal) from group
    except (MCPError, httpx2.HTTPError) as error:
        raise _named(error, bearer.refusal) from error


def _named(error: BaseException, refusal: str) -> BaseException:
    """The first failure of a group with its reason; what is no failure of the exchange stays as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if refusal and isinstance(error, MCPError | httpx2.HTTPError):
        return AgentError(refusal)
    if isinstance(error, httpx2.TransportError):
        return AgentError(f"The server cannot be reached: {error}")
    if isinstance(error, MCPError):
        return AgentError(f"The server refused the request: {error} (JSON-RPC {error.error.code})")
    return error
