"""`gateway call` and `gateway tools`: an MCP client for people."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp_types import TextContent, Tool

from gateway.cli.loop import run_loop
from gateway.cli.words import counted
from gateway.errors import GatewayError
from gateway.net.agent import FixedToken, TokenSource, connect
from gateway.net.oauth import ClientCredentials

_JSON_TYPES: Final = frozenset({"integer", "number", "boolean", "array", "object", "null"})


class ArgumentError(GatewayError):
    """The command line's arguments do not make a call."""


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8080/mcp", help="the MCP endpoint (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    group = parser.add_argument_group("token", "one of: --token, GATEWAY_TOKEN, or client credentials")
    group.add_argument("--token", default=os.environ.get("GATEWAY_TOKEN", ""), help="an access token")
    group.add_argument("--token-url", metavar="URL", help="the identity provider's token endpoint")
    group.add_argument("--client-id", metavar="ID")
    group.add_argument("--client-secret", metavar="SECRET", default=os.environ.get("GATEWAY_CLIENT_SECRET"))
    group.add_argument("--scope", default="", help="scopes to ask for, separated by spaces")
    group.add_argument("--resource", metavar="URL", help="the audience to ask for (default: the value of --url)")


def configure_call(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `gateway call`."""
    parser.description = "Call a tool of a running gateway and print its rows."
    parser.add_argument("tool", help="the tool's name")
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="key=value",
        help="arguments, read by the parameter's type; key:=JSON for JSON as it stands",
    )
    _add_server(parser)
    parser.set_defaults(run=lambda arguments: run_loop(_call(arguments)))


def configure_tools(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `gateway tools`."""
    parser.description = "List the tools that this token may call."
    _add_server(parser)
    parser.set_defaults(run=lambda arguments: run_loop(_tools(arguments)))


def tokens_from(arguments: argparse.Namespace) -> TokenSource:
    """The token source that the flags describe.

    Raises:
        ArgumentError: half of the client credentials are missing.
    """
    if not arguments.token_url:
        return FixedToken(arguments.token)
    if not arguments.client_id or not arguments.client_secret:
        raise ArgumentError("--token-url needs --client-id and --client-secret (or GATEWAY_CLIENT_SECRET).")
    return ClientCredentials(
        arguments.token_url,
        arguments.client_id,
        arguments.client_secret,
        scope=arguments.scope,
        resource=arguments.url if arguments.resource is None else arguments.resource,
    )


async def _call(arguments: argparse.Namespace) -> int:
    async with connect(arguments.url, tokens_from(arguments)) as client:
        known = {tool.name: tool for tool in (await client.list_tools()).tools}
        tool = known.get(arguments.tool)
        values = parse_arguments(arguments.arguments, tool.input_schema if tool else {})
        progress = None if arguments.json else _print_progress
        result = await client.call_tool(arguments.tool, values, progress_callback=progress)
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    # The text carries the rows digit for digit; a parsed structure would have passed through floats.
    rows, hints = texts[0] if texts else "", texts[1:]
    if result.is_error:
        print(rows, file=sys.stderr)
        return 1
    print(rows if arguments.json else _table(rows))
    for hint in hints:
        print(hint, file=sys.stderr)
    return 0


async def _print_progress(progress: float, total: float | None, message: str | None) -> None:
    if sys.stderr.isatty():
        print(f"  {message}", file=sys.stderr)


async def _tools(arguments: argparse.Namespace) -> int:
    async with connect(arguments.url, tokens_from(arguments)) as client:
        tools = (await client.list_tools()).tools
    if arguments.json:
        print(json.dumps([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools], indent=2))
        return 0
    for tool in tools:
        print(f"{tool.name}({_signature(tool)})\n    {tool.description}")
    if not tools:
        print("This token may call no tool.", file=sys.stderr)
    return 0


def _signature(tool: Tool) -> str:
    required = set(tool.input_schema.get("required", ()))
    properties: Mapping[str, Mapping[str, Any]] = tool.input_schema.get("properties", {})
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {schema.get('type', 'any')}" for name, schema in properties.items()
    )


def parse_arguments(pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments from `key=value` (read by the parameter's declared type) and `key:=JSON`.

    Raises:
        ArgumentError: a pair that is neither.
    """
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    values: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise ArgumentError(f"Arguments are key=value or key:=JSON, not {pair!r}.")
        if key.endswith(":"):
            values[key[:-1]] = _json(key[:-1], text)
            continue
        declared = properties.get(key, {}).get("type", "string")
        types = {declared} if isinstance(declared, str) else set(declared)
        is_text = "string" in types or not types & _JSON_TYPES
        values[key] = text if is_text else _json_or_text(text)
    return values


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"The value of {key}:= is not JSON: {error}") from None


def _json_or_text(text: str) -> Any:
    """Text that is not JSON goes as text, so that the server's own message explains what it wants."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _table(rows_json: str) -> str:
    """Rows as aligned columns, numbers as they were written."""
    document = json.loads(rows_json, parse_float=str, parse_int=str)
    rows: list[dict[str, Any]] = document.get("rows", [])
    foot = _foot(document)
    if not rows:
        return foot
    cells = [[_cell(value) for value in row.values()] for row in rows]
    names = list(rows[0])
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    lines = [names, ["-" * width for width in widths], *cells]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, foot])


def _foot(document: Mapping[str, Any]) -> str:
    """How many rows there are, or how many were changed."""
    if "affected_rows" in document:
        return f"({counted(document['affected_rows'], 'row')} changed)"
    return f"({counted(document['row_count'], 'row')}{', truncated' if document['truncated'] else ''})"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
