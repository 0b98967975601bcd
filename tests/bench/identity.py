"""The development identity provider in a process of its own, and a collector that throws traces away.

`python -m tests.bench.identity` serves until its standard input ends. Its first line of output is JSON: the issuer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from aiohttp import web

from gateway.demo.identity import IdentityProvider

AUDIENCE: Final = "https://gateway.bench/mcp"
CLIENT: Final = "bench"
SECRET: Final = "bench-secret"
SCOPE: Final = "shop:read"


class BenchIdentity(IdentityProvider):
    """The development provider, with a place for traces."""

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_post("/v1/traces", _swallow)
        return app


async def _swallow(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(content_type="application/x-protobuf")


async def main() -> None:
    async with BenchIdentity({CLIENT: (SECRET, (SCOPE,))}, AUDIENCE) as provider:
        print(json.dumps({"issuer": provider.issuer}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
