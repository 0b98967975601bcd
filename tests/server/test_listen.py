"""`subscriptions/listen` over HTTP: what is told, to whom, how often, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.config.loader import load
from gateway.server import events, listen
from tests.world import CONFIGURATION, MODERN, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOOLS = {"toolsListChanged": True}
CHANGED = "notifications/tools/list_changed"


class Stream:
    """An open listen stream, read frame by frame."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def line(self) -> str:
        async with asyncio.timeout(5):
            while not (line := await self.response.content.readline()).strip():
                if not line:
                    raise EOFError
            return line.decode().strip()

    async def frame(self) -> dict[str, Any]:
        while not (line := await self.line()).startswith("data: "):
            pass
        found: dict[str, Any] = json.loads(line[6:])
        return found

    async def rest(self) -> list[dict[str, Any]]:
        frames = []
        try:
            while True:
                frames.append(await self.frame())
        except EOFError:
            return frames


@asynccontextmanager
async def listening(
    world: World, wanted: Mapping[str, Any] = TOOLS, *, identifier: Any = "sub-1", client: str = "reader"
) -> AsyncIterator[Stream]:
    """Listen; the acknowledgement is not read yet."""
    body = envelope(listen.METHOD, {"notifications": dict(wanted)}, identifier=identifier)
    headers = {**routing(body), "Accept": "application/json, text/event-stream"}
    headers["Authorization"] = f"Bearer {await world.credentials(client).token()}"
    await until_shapes_are_known(world)
    async with world.http.post(world.gateway.url, json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Accel-Buffering"] == "no"
        yield Stream(response)
        response.close()


async def until_shapes_are_known(world: World) -> None:
    """So that no source tells of its own while a test listens."""
    sources = world.gateway.snapshot.sources
    statements = world.gateway.snapshot.catalog.statements()
    async with asyncio.timeout(10):
        while any(len(sources[name].shapes) < len(statements[name]) for name in ("shop", "shop_rw")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_nobody_listens(world: World) -> None:
    async with asyncio.timeout(5):
        while len(world.gateway.announcements):  # noqa: ASYNC110 - a disconnect has no event for tests
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("identifier", ["sub-1", 7, 2**70])
async def test_a_stream_is_acknowledged_first_and_every_frame_is_tagged(world: World, identifier: Any) -> None:
    async with listening(world, identifier=identifier) as stream:
        first = await stream.frame()
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == TOOLS
        world.gateway.announcements.announce_tools_changed()
        second = await stream.frame()
        assert second["method"] == CHANGED
        assert [each["params"]["_meta"][SUBSCRIPTION_ID_META_KEY] for each in (first, second)] == [identifier] * 2
    await until_nobody_listens(world)


async def test_changes_at_once_are_one_and_changes_apart_are_two(world: World) -> None:
    async with listening(world) as stream:
        await stream.frame()
        for _ in range(50):
            world.gateway.announcements.announce_tools_changed()
        assert (await stream.frame())["method"] == CHANGED
        world.gateway.announcements.announce_tools_changed()
        assert (await stream.frame())["method"] == CHANGED
        world.gateway.announcements.close()
        (last,) = await stream.rest()
        assert last["result"]["_meta"][listen.ENDED] == "shutdown"
        assert last["result"]["resultType"] == "complete"
    world.gateway.announcements._is_closed = False


@pytest.mark.parametrize("wanted", [{}, {"toolsListChanged": False}, {"promptsListChanged": True}])
async def test_only_what_was_asked_for_is_told(world: World, wanted: Mapping[str, Any], tmp_path: Path) -> None:
    async with listening(world, wanted) as stream, listening(world) as other:
        assert (await stream.frame())["params"]["notifications"] == {}
        await other.frame()
        world.gateway.announcements.announce_tools_changed()
        await other.frame()
        (each,) = [one for one in world.gateway.announcements._hearers if not one._kinds]  # type: ignore[attr-defined]
        assert each._pending is None  # type: ignore[attr-defined]
    await until_nobody_listens(world)


async def test_a_silent_stream_is_kept_alive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "KEEP_ALIVE", 0.05)
    async with listening(world) as stream:
        await stream.frame()
        assert [await stream.line() for _ in range(2)] == [": keep-alive"] * 2
    await until_nobody_listens(world)


async def test_a_caller_holds_so_many_streams_and_no_more(tmp_path: Path) -> None:
    few = CONFIGURATION.replace("limits: {", "limits: {listeners_per_caller: 2, max_listeners: 3, ")
    async with open_world(tmp_path, few) as world:
        body = {"notifications": TOOLS}
        async with listening(world) as one, listening(world) as two:
            await one.frame()
            await two.frame()
            reply = await world.modern(listen.METHOD, body)
            assert (reply.status, reply.error["code"]) == (429, -32005)
            assert "close one" in reply.error["message"]
            assert reply.headers["Retry-After"] == "30"
            async with listening(world, client="clerk") as three:
                await three.frame()
                reply = await world.modern(listen.METHOD, body, client="stranger")
                assert (reply.status, reply.error["code"]) == (429, -32005)
                # Streams are no calls that run: both callers may still call.
                assert not (await world.call("customer_by_id", {"id": 1})).result["isError"]
        await until_nobody_listens(world)
        async with listening(world) as again:
            await again.frame()


async def test_a_stream_ends_when_its_token_is_due(tmp_path: Path) -> None:
    soon = CONFIGURATION.replace("auth:\n", "auth:\n  cache: {max_age: 1s}\n")
    async with open_world(tmp_path, soon) as world, listening(world) as stream:
        frames = await stream.rest()
        assert [frame.get("method", "result") for frame in frames] == [
            "notifications/subscriptions/acknowledged",
            "result",
        ]
        assert frames[-1]["result"]["_meta"][listen.ENDED] == "token_due"
        assert frames[-1]["id"] == "sub-1"
        assert not len(world.gateway.announcements)


async def test_who_takes_no_stream_is_told_so(world: World) -> None:
    body = envelope(listen.METHOD, {"notifications": TOOLS})
    reply = await world.send(body, headers={**routing(body), "Accept": "application/json"})
    assert reply.status == 406
    assert "text/event-stream" in reply.error["message"]


async def test_malformed_and_older_requests_are_refused(world: World) -> None:
    assert (await world.modern(listen.METHOD, {})).error["code"] == -32602
    assert (await world.modern(listen.METHOD, {"notifications": {"toolsListChanged": []}})).status == 400
    assert (await world.legacy(listen.METHOD, {"notifications": TOOLS})).error["code"] == -32601
    assert (await world.modern(listen.METHOD, {"notifications": TOOLS}, client=None)).status == 401


async def test_listening_is_announced_to_those_who_can(world: World) -> None:
    capabilities = (await world.modern("server/discover")).result["capabilities"]
    assert capabilities["tools"] == {"listChanged": True}
    assert not capabilities["prompts"].get("listChanged")
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    assert not (await world.legacy("initialize", params)).result["capabilities"]["tools"].get("listChanged")


async def test_a_stream_ends_with_a_result_when_the_gateway_stops(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with open_world(tmp_path) as world:
            world.http, own = http, world.http
            stack = listening(world)
            stream = await stack.__aenter__()
            await stream.frame()
            world.gateway.announcements.announce_tools_changed()
            world.http = own
        frames = await stream.rest()
        assert [frame.get("method", "result") for frame in frames] == [CHANGED, "result"]
        assert frames[-1]["result"]["_meta"][listen.ENDED] == "shutdown"
        await stack.__aexit__(None, None, None)


async def test_a_source_that_learns_its_columns_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database comes after the listener: tools/list then has output schemas, and the listener hears of it once."""
    late = tmp_path / "late.sqlite"
    text = CONFIGURATION.replace("tools:\n", '  late: {engine: sqlite, path: "${env:LATE}"}\ntools:\n', 1)
    for number in range(5):
        text += f"  late_{number}: {{description: Late., source: late, any_scopes: ['customers:read'], "
        text += f"statement: select name as name_{number} from things}}\n"
    async with open_world(tmp_path, text, {"LATE": str(late)}) as world, listening(world) as stream:
        await stream.frame()

        async def schemas() -> int:
            tools = (await world.modern("tools/list")).result["tools"]
            return sum("outputSchema" in tool for tool in tools if tool["name"].startswith("late_"))

        assert await schemas() == 0
        database = sqlite3.connect(late)
        database.execute("create table things (name text)")
        database.close()
        async with asyncio.timeout(10):
            assert (await stream.frame())["method"] == CHANGED
        assert await schemas() == 5
        await asyncio.sleep(3 * events.SETTLE)
        (listener,) = world.gateway.announcements._hearers
        assert listener._pending is None  # type: ignore[attr-defined]
        world.gateway.announcements.close()
        assert [frame.get("method", "result") for frame in await stream.rest()] == ["result"]


async def test_the_sdk_s_client_listens(world: World) -> None:
    token = await world.credentials().token()
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http,
        Client(streamable_http_client(world.gateway.url, http_client=http), mode=MODERN) as client,
        client.listen(tools_list_changed=True) as subscription,
    ):
        world.gateway.announcements.announce_tools_changed()
        async with asyncio.timeout(5):
            event = await anext(aiter(subscription))
        assert type(event).__name__ == "ToolsListChanged"
    await until_nobody_listens(world)


async def test_a_reload_that_changes_tools_is_told_once_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, listening(world) as stream:
        await stream.frame()
        path, environment = (
            tmp_path / "gateway.yaml",
            {"ISSUER": world.provider.issuer, "DATABASE": str(world.database)},
        )

        async def reload(text: str) -> None:
            path.write_text(text)
            await world.gateway.live.replace(load(path, environment=os.environ | environment))

        changed = CONFIGURATION + "  more: {description: More., source: shop, statement: select 1 as one}\n"
        await reload(changed)
        assert (await stream.frame())["method"] == CHANGED
        await reload(changed.replace("burst: 10000", "burst: 9999", 1))
        await asyncio.sleep(3 * events.SETTLE)
        world.gateway.announcements.close()
        assert [frame.get("method", "result") for frame in await stream.rest()] == ["result"]
