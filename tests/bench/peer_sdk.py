"""The MCP SDK's own HTTP application on uvicorn: one tool, tokens verified by PyJWT on each call.

`python -m tests.bench.peer_sdk PORT`; the provider is in BENCH_ISSUER, the audience in BENCH_AUDIENCE.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, Final

import jwt
import mcp_types as types
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from pydantic import AnyHttpUrl

from tests.bench.floor import QUERY, open_pool

_SCHEMA: Final = {"type": "object", "properties": {"id": {"type": "integer", "minimum": 1}}, "required": ["id"]}


class JwtVerifier:
    """What the SDK's users write: the provider's keys, kept, and PyJWT."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = jwt.PyJWKClient(f"{issuer}/jwks")

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(token, key, ["RS256"], audience=self._audience, issuer=self._issuer)
        except jwt.PyJWTError:
            return None
        return AccessToken(token=token, client_id=claims["client_id"], scopes=claims["scope"].split())


async def main(port: int) -> None:
    pool = await open_pool()
    issuer, audience = os.environ["BENCH_ISSUER"], os.environ["BENCH_AUDIENCE"]

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name="customer_by_id", input_schema=_SCHEMA)])

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        async with pool.acquire() as connection:
            rows = await connection.fetch(QUERY, (params.arguments or {})["id"])
        content = json.loads(json.dumps({"rows": [dict(row) for row in rows], "row_count": len(rows)}, default=str))
        text = types.TextContent(type="text", text=json.dumps(content))
        return types.CallToolResult(content=[text], structured_content=content)

    server = Server("bench", on_list_tools=list_tools, on_call_tool=call_tool)
    auth = AuthSettings(
        issuer_url=AnyHttpUrl(issuer),
        resource_server_url=AnyHttpUrl(audience),
        required_scopes=[os.environ["BENCH_SCOPE"]],
    )
    app = server.streamable_http_app(
        json_response=True, stateless_http=True, auth=auth, token_verifier=JwtVerifier(issuer, audience)
    )
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="info", access_log=True)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
