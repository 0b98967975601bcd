"""FastMCP over HTTP with its own JWT verifier: one tool. Runs in a virtual environment of its own.

`python -m tests.bench.peer_fastmcp PORT`; the provider is in BENCH_ISSUER, the audience in BENCH_AUDIENCE.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import JWTVerifier

from tests.bench.floor import QUERY, open_pool


async def main(port: int) -> None:
    pool = await open_pool()
    issuer = os.environ["BENCH_ISSUER"]
    verifier = JWTVerifier(
        jwks_uri=f"{issuer}/jwks",
        issuer=issuer,
        audience=os.environ["BENCH_AUDIENCE"],
        required_scopes=[os.environ["BENCH_SCOPE"]],
    )
    server = FastMCP("bench", auth=verifier)

    async def customer_by_id(id: int) -> dict[str, Any]:  # noqa: A002 - the tool's parameter, as everywhere
        """One customer by its number."""
        async with pool.acquire() as connection:
            rows = await connection.fetch(QUERY, id)
        content = {"rows": [dict(row) for row in rows], "row_count": len(rows)}
        return dict(json.loads(json.dumps(content, default=str)))

    server.tool(customer_by_id)
    app = server.http_app(json_response=True, stateless_http=True)
    await uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="info")).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
