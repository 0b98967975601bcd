"""The tour: what an agent does with the gateway, step by step, with every answer shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from mcp import Client
from mcp_types import TextContent

from gateway.demo.world import CLIENT_ID, CLIENT_SECRET, World
from gateway.net.agent import AgentError, connect
from gateway.net.oauth import ClientCredentials

_BOLD: Final = "\033[1m{}\033[0m"


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints steps readably; bold headings where the output is a terminal."""

    has_colour: bool

    def heading(self, number: int, text: str) -> None:
        """A step's title."""
        title = f"{number}. {text}"
        print(f"\n{_BOLD.format(title) if self.has_colour else title}")

    def line(self, text: str) -> None:
        """One indented line."""
        print(f"   {text}")


class TourFailed(Exception):
    """A step did not go as it must; the message says which and what came instead."""


async def take_tour(url: str, credentials: ClientCredentials, out: Printer) -> None:
    """Get a token, list the tools, call three, and be refused twice.

    Raises:
        TourFailed: a step went otherwise.
        AgentError: the gateway could not be reached.
    """
    out.heading(1, "The agent gets an access token (OAuth 2.0 client credentials)")
    token = await credentials.token()
    out.line(f"{token[:16]}... ({len(token)} characters, from the development identity provider)")
    async with connect(url, credentials) as client:
        out.heading(2, f"It connects (MCP {client.protocol_version}) and lists the tools that its token may call")
        for tool in (await client.list_tools()).tools:
            out.line(f"{tool.name:20} {tool.description}")
        await _rows(client, out, 3, "One row", "customer_by_id", {"id": 42}, 1)
        await _rows(client, out, 4, "A list with a limit", "orders_of_customer", {"customer_id": 569}, 3)
        await _rows(client, out, 5, "An aggregate", "sales_by_category", {"country": "DE"}, 4)
        out.heading(6, 'A bad argument is refused before the database is asked: customer_by_id {"id": -1}')
        result = await client.call_tool("customer_by_id", {"id": -1})
        if not result.is_error:
            raise TourFailed("step 6: a bad argument was accepted")
        out.line(_text(result.content))
    out.heading(7, "A tool outside the token's scopes is refused: customers_export {}")
    try:
        async with connect(url, credentials) as client:
            await client.call_tool("customers_export", {})
    except AgentError as refusal:
        if "403" not in refusal.message:
            raise
        out.line(refusal.message)
    else:
        raise TourFailed("step 7: a call without the scope was served")


async def _rows(
    client: Client, out: Printer, step: int, title: str, tool: str, arguments: Mapping[str, Any], expected: int
) -> None:
    out.heading(step, f"{title}: {tool} {json.dumps(arguments)}")
    result = await client.call_tool(tool, dict(arguments))
    text = _text(result.content)
    if result.is_error:
        raise TourFailed(f"step {step}: {text}")
    answer = json.loads(text)
    for row in answer["rows"]:
        out.line("  ".join(f"{key}={value}" for key, value in row.items()))
    plural = "s" * (answer["row_count"] != 1)
    out.line(f"({answer['row_count']} row{plural}{', truncated' if answer['truncated'] else ''})")
    for hint in result.content[1:]:
        if isinstance(hint, TextContent):
            out.line(f"note to the model: {hint.text}")
    if answer["row_count"] != expected:
        raise TourFailed(f"step {step}: expected {expected} rows, got {answer['row_count']}")


def _text(content: list[Any]) -> str:
    first = content[0] if content else None
    return first.text if isinstance(first, TextContent) else ""


def invitation(world: World) -> str:
    """How to go on by hand: a curl, a command, and a client's configuration."""
    request: Mapping[str, object] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "customer_by_id", "arguments": {"id": 42}},
    }
    client = {
        "mcpServers": {"shop": {"type": "http", "url": world.url, "headers": {"Authorization": "Bearer ${TOKEN}"}}}
    }
    return f"""
Now you. A token is good for an hour:

  TOKEN=$(curl -s -u {CLIENT_ID}:{CLIENT_SECRET} -d grant_type=client_credentials {world.token_url} \\
    | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/')
  curl -s {world.url} -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
    -H 'Accept: application/json' -d '{orjson.dumps(request).decode()}'

The same by the gateway's own client:

  {sys.argv[0]} call customer_by_id id=42 --url {world.url} \\
    --token-url {world.token_url} --client-id {CLIENT_ID} --client-secret {CLIENT_SECRET}

For an MCP client that reads mcp.json:

{orjson.dumps(client, option=orjson.OPT_INDENT_2).decode()}

Serving until Ctrl-C."""
