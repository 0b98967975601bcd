"""What goes wrong inside stays inside, in every framing over HTTP; and no framing serves a Host that is not ours."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio

from gateway.tools.catalog import Catalog
from tests.server.streams import HELLO, Client, settled
from tests.server.test_http_sse import connected
from tests.world import CONFIGURATION as PLAIN
from tests.world import World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
MARK = "integer overflow"
"""SQLite's own words."""
SECRET = "password=hunter2 at /srv/secret.py"
BROKEN = """
  broken:
    description: Fails in the database.
    source: shop
    scopes: ["customers:read"]
    statement: select abs(-9223372036854775807 - 1) as overflow
"""
Asking = Callable[[World, str, dict[str, Any]], Awaitable[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("leaks")
    async with open_world(folder, PLAIN + BROKEN + "features: {sessions: true, http_sse: true}\n") as world:
        await settled(world)
        yield world


async def _modern(world: World, method: str, params: dict[str, Any]) -> str:
    return (await world.modern(method, params)).body.decode()


async def _stream(world: World, method: str, params: dict[str, Any]) -> str:
    return (await world.modern(method, params, meta={"progressToken": 1})).body.decode()


async def _session(world: World, method: str, params: dict[str, Any]) -> str:
    async with Client(world) as client:
        await client.initialize()
        return (await client.request(method, params)).body.decode()


async def _session_stream(world: World, method: str, params: dict[str, Any]) -> str:
    async with Client(world) as client:
        await client.initialize()
        return (await client.request(method, params | {"_meta": {"progressToken": 1}})).body.decode()


async def _http_sse(world: World, method: str, params: dict[str, Any]) -> str:
    async with connected(world) as client:
        await client.request(method, params)
        return json.dumps(await client.message())


WAYS = [_modern, _stream, _session, _session_stream, _http_sse]


@pytest.mark.parametrize("ask", WAYS)
async def test_a_fault_inside_says_nothing_of_itself(
    world: World, ask: Asking, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Catalog, "visible", fail)
    answer = await ask(world, "tools/list", {})
    assert "-32603" in answer
    assert "correlation id" in answer
    assert "hunter2" not in answer
    assert "RuntimeError" not in answer
    assert "hunter2" in log.getvalue()


@pytest.mark.parametrize("ask", WAYS)
async def test_a_database_s_own_words_stay_with_the_operator(world: World, ask: Asking) -> None:
    answer = await ask(world, "tools/call", {"name": "broken", "arguments": {}})
    assert '"isError":true' in answer.replace(" ", "")
    assert MARK not in answer
    assert "9223372036854775807" not in answer


async def test_no_way_in_serves_a_foreign_host(world: World) -> None:
    """The fence against DNS rebinding stands before all of them, whatever they ask and whoever asks."""
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
    async with Client(world) as client, connected(world) as sse:
        await client.initialize()
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", ""):
            foreign = {"Host": host}
            for method, url, headers in (
                ("POST", world.gateway.url, {}),
                ("POST", world.gateway.url, {"Mcp-Session-Id": str(client.session)}),
                ("GET", world.gateway.url, {"Mcp-Session-Id": str(client.session), "Accept": "text/event-stream"}),
                ("DELETE", world.gateway.url, {"Mcp-Session-Id": str(client.session)}),
                ("GET", world.base + "/sse", {"Accept": "text/event-stream"}),
                ("POST", world.base + sse.address, {}),
            ):
                reply = await world.send(hello, method=method, url=url, headers=headers | foreign)
                assert reply.status == 421, (method, url, host)
        assert (await client.request("ping")).status == 200
