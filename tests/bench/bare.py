"""The floor: what aiohttp, or aiohttp with asyncpg, costs when nothing else is done. No token is checked.

`python -m tests.bench.bare echo|query PORT` serves until it is told to stop; `loop SECONDS` runs the statement over
and over on 16 connections and prints what that cost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
import uvloop
from aiohttp import web

from tests.bench.floor import QUERY, open_pool

_ROW: Final = b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"rows":[{"id":1,"name":"Customer 1"}]}}}'

Handler = Callable[[web.Request], Awaitable[web.Response]]


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


async def loop_queries(seconds: float) -> dict[str, float]:
    """The driver alone: calls, CPU seconds and seconds."""
    pool = await open_pool()
    calls = 0

    async def worker(first: int, until: float) -> None:
        nonlocal calls
        async with pool.acquire() as connection:
            while time.perf_counter() < until:
                await connection.fetch(QUERY, 1 + (first + calls) % 500)
                calls += 1

    await asyncio.gather(*(worker(number, time.perf_counter() + 0.3) for number in range(16)))
    calls, cpu, started = 0, time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker(number, started + seconds) for number in range(16)))
    found = {"calls": calls, "cpu": time.process_time() - cpu, "seconds": time.perf_counter() - started}
    await pool.close()
    return found


async def main(kind: str, argument: str) -> None:
    if kind == "loop":
        print(json.dumps(await loop_queries(float(argument))))
        return
    port = int(argument)
    app = web.Application()
    app.router.add_post("/mcp", echo if kind == "echo" else query(await open_pool()))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main(*sys.argv[1:]))
