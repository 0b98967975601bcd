"""The floor: what aiohttp, or aiohttp with asyncpg, costs when nothing else is done. No token is checked.

`python -m tests.bench.bare echo|query PORT` serves until it is told to stop; `query` finds its database in
BENCH_DATABASE (JSON of arguments for asyncpg) and BENCH_CA.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
import orjson
import uvloop
from aiohttp import web

QUERY: Final = "select id, name, email, country, balance, since from customers where id = $1"
_ROW: Final = b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"rows":[{"id":1,"name":"Customer 1"}]}}}'

Handler = Callable[[web.Request], Awaitable[web.Response]]


async def open_pool(size: int) -> Any:
    """A pool of asyncpg's own, without the query that resets a connection when it comes back."""
    return await asyncpg.create_pool(
        **json.loads(os.environ["BENCH_DATABASE"]),
        ssl=ssl.create_default_context(cafile=os.environ["BENCH_CA"]),
        min_size=size,
        max_size=size,
        reset=_nothing,
    )


async def _nothing(_: Any) -> None:
    """Nothing is left behind by these queries."""


async def echo(request: web.Request) -> web.Response:
    """Parse the request, answer the same row."""
    orjson.loads(await request.read())
    return web.Response(body=_ROW, content_type="application/json")


def query(pool: Any) -> Handler:
    """One row by its number, as JSON-RPC."""

    async def handler(request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        async with pool.acquire() as connection:
            rows = await connection.fetch(QUERY, body["params"]["arguments"]["id"])
        content = {"rows": [dict(row) for row in rows], "row_count": len(rows)}
        text = orjson.dumps(content, default=str)
        result = {"content": [{"type": "text", "text": text.decode()}], "structuredContent": orjson.Fragment(text)}
        answer = orjson.dumps({"jsonrpc": "2.0", "id": body["id"], "result": result})
        return web.Response(body=answer, content_type="application/json")

    return handler


async def main(kind: str, port: int) -> None:
    app = web.Application()
    app.router.add_post("/mcp", echo if kind == "echo" else query(await open_pool(16)))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main(sys.argv[1], int(sys.argv[2])))
