"""FastMCP's client, in a virtual environment of its own: lists tools, calls one, and prints what came."""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport


async def main() -> None:
    target, *command = sys.argv[1:]
    over_http = SSETransport if target.endswith("/sse") else StreamableHttpTransport
    transport = (
        StdioTransport(target, command, env=dict(os.environ))
        if command
        else over_http(target, headers={"Authorization": f"Bearer {os.environ['TOKEN']}"})
    )
    async with Client(transport) as client:
        tools = [tool.name for tool in await client.list_tools()]
        stages: list[str] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            stages.append(message or "")

        result = await client.call_tool("customer_by_id", {"id": 3}, progress_handler=on_progress)
        print(json.dumps({"tools": tools, "rows": result.structured_content["rows"], "stages": stages}))


asyncio.run(main())
