"""Clients of other makers against the real gateway, as docs/reference/clients.md says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.cli.test_stdio import LOCAL
from tests.clients.installs import fastmcp, from_npm
from tests.conformance.run import node
from tests.world import CONFIGURATION, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT: Final = Path(__file__).parents[2]
Command = Callable[[], list[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def older(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway with the ways in for older clients."""
    text = CONFIGURATION + "features: {sessions: true, http_sse: true}\n"
    async with open_world(tmp_path_factory.mktemp("older"), text) as world:
        yield world


def _typescript() -> list[str]:
    return [str(node()), str(from_npm() / "sdk.mjs")]


def _fastmcp() -> list[str]:
    return [str(fastmcp()), str(Path(__file__).parent / "fast.py")]


def _inspector() -> list[str]:
    return [str(node()), str(from_npm() / "node_modules/@modelcontextprotocol/inspector-cli/build/cli.js"), "--cli"]


async def _run(command: Sequence[str], **environment: str) -> str:
    """What a program prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
    return out.decode()


def _stdio(folder: Path, world: World) -> tuple[list[str], dict[str, str]]:
    """How a client starts the gateway."""
    path = folder / "stdio.yaml"
    path.write_text(LOCAL)
    command = [sys.executable, "-m", "gateway.cli.main", "stdio", "--config", str(path)]
    return command, {"DATABASE": str(world.database)}


def _check(told: dict[str, Any], stages: int) -> None:
    assert "customer_by_id" in told["tools"]
    (row,) = told["rows"]
    assert row["id"] == 3
    assert len(told["stages"]) >= stages


@pytest.mark.parametrize("client", [_typescript, _fastmcp])
async def test_over_http(world: World, client: Command) -> None:
    command = await asyncio.to_thread(client)
    printed = await _run([*command, world.gateway.url], TOKEN=await world.credentials().token())
    _check(json.loads(printed), 3)


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
@pytest.mark.parametrize("client", [_typescript, _fastmcp])
async def test_with_a_session(older: World, client: Command, path: str) -> None:
    command = await asyncio.to_thread(client)
    printed = await _run([*command, older.base + path], TOKEN=await older.credentials().token())
    told = json.loads(printed)
    # The TypeScript SDK forgets whom to tell of progress that arrives in one piece with the answer, as on this stream.
    _check(told, 0 if (client, path) == (_typescript, "/sse") else 3)
    if path == "/mcp" and client is _typescript:
        assert told["session"]


@pytest.mark.parametrize("client", [_typescript, _fastmcp])
async def test_over_stdio(world: World, client: Command, tmp_path: Path) -> None:
    own, environment = _stdio(tmp_path, world)
    _check(json.loads(await _run([*await asyncio.to_thread(client), *own], **environment)), 0)


async def test_the_inspector_over_http(world: World) -> None:
    authorization = f"Authorization: Bearer {await world.credentials().token()}"
    target = [world.gateway.url, "--transport", "http", "--header", authorization]
    command = await asyncio.to_thread(_inspector)
    listed = json.loads(await _run([*command, *target, "--method", "tools/list"]))
    assert "customer_by_id" in [tool["name"] for tool in listed["tools"]]
    call = ["--method", "tools/call", "--tool-name", "customer_by_id", "--tool-arg", "id=3"]
    assert json.loads(await _run([*command, *target, *call]))["structuredContent"]["row_count"] == 1


async def test_plain_curl_in_both_eras(world: World) -> None:
    token = await world.credentials().token()
    modern = envelope("tools/call", {"name": "customer_by_id", "arguments": {"id": 3}})
    old = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": modern["params"] | {"_meta": {}}}
    for body, headers in ((modern, routing(modern)), (old, {"MCP-Protocol-Version": "2025-11-25"})):
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
        flags = [flag for name, value in sent.items() for flag in ("--header", f"{name}: {value}")]
        printed = await _run(["curl", "-sS", "--noproxy", "*", *flags, "--data", json.dumps(body), world.gateway.url])
        assert json.loads(printed)["result"]["structuredContent"]["row_count"] == 1
