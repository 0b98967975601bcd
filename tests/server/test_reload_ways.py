"""Changed files while clients of every way in are connected: what they keep, what they hear, and how often."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from gateway.server.events import SETTLE
from gateway.server.reload import Reloader
from gateway.tools.loading import load_with_tools
from tests.server.streams import Client, Stream, settled, until
from tests.server.test_http_sse import SseClient, connected
from tests.server.test_listen import Stream as Listener
from tests.server.test_listen import listening
from tests.world import CONFIGURATION as PLAIN
from tests.world import World, open_world

CONFIGURATION = PLAIN + "features: {sessions: true, http_sse: true}\n"
OTHER = CONFIGURATION.replace("description: One customer.", "description: One customer, by its number.")
CHANGED = "notifications/tools/list_changed"


@dataclass
class Everyone:
    """A gateway whose files are watched, and a client of each way in."""

    world: World
    reloader: Reloader
    path: Path
    client: Client
    listener: Listener
    session: Stream
    sse: SseClient

    async def change(self, text: str) -> None:
        """Write another configuration, and wait until it is in force and was told of."""
        number = self.reloader.reloads.succeeded
        self.path.write_text(text)
        await until(lambda: self.reloader.reloads.succeeded == number + 1, 20.0)
        await asyncio.sleep(2 * SETTLE)
        await settled(self.world)

    async def heard(self) -> list[str]:
        """What each of them hears next."""
        listener = await self.listener.frame()
        session = (await self.session.event()).message
        sse = (await self.sse.stream.event()).message
        return [str(each["method"]) for each in (listener, session, sse)]


@pytest_asyncio.fixture
async def everyone(tmp_path: Path) -> AsyncIterator[Everyone]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(tmp_path, CONFIGURATION))
        await settled(world)
        path, known = tmp_path / "gateway.yaml", os.environ | {"DATABASE": str(world.database)}
        known["ISSUER"] = world.provider.issuer
        reloader = Reloader(path, lambda followed: load_with_tools(path, environment=known, followed=followed), 0.05)
        reloader.read_first()
        await stack.enter_async_context(reloader.watching(world.gateway.live))
        client = await stack.enter_async_context(Client(world))
        await client.initialize()
        listener = await stack.enter_async_context(listening(world))
        await listener.frame()
        session = await stack.enter_async_context(client.listen())
        await session.event()
        sse = await stack.enter_async_context(connected(world))
        yield Everyone(world, reloader, path, client, listener, session, sse)


async def test_each_hears_once_of_each_reload_that_changed_a_tool(everyone: Everyone) -> None:
    await everyone.change(CONFIGURATION.replace("burst: 10000", "burst: 9999", 1))
    await everyone.change(OTHER)
    await everyone.change(OTHER.replace("burst: 10000", "burst: 9998", 1))
    await everyone.change(CONFIGURATION)
    # Two of the four changed a tool. What one of them hears twice or too late would be in the way of what follows.
    for _ in range(2):
        assert await everyone.heard() == [CHANGED] * 3
    everyone.world.gateway.announcements.announce_tools_changed()
    assert await everyone.heard() == [CHANGED] * 3
    await everyone.sse.request("ping", identifier="last")
    assert (await everyone.sse.message())["id"] == "last"
    everyone.world.gateway.announcements.close()
    assert [frame.get("method", "result") for frame in await everyone.listener.rest()] == ["result"]


async def test_what_runs_in_a_session_outlasts_a_reload(everyone: Everyone) -> None:
    world, client = everyone.world, everyone.client
    async with client.stream("count_slowly", n=2_000_000) as stream:
        await everyone.sse.call("count_slowly", identifier="sse", n=2_000_000)
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 2, 10.0)
        await everyone.change(OTHER)
        last = (await stream.rest())[-1].message
    assert last["result"]["structuredContent"]["rows"] == [{"counted": 2_000_000}]
    while (message := await everyone.sse.message()).get("id") != "sse":
        assert message["method"] == CHANGED
    assert message["result"]["structuredContent"]["rows"] == [{"counted": 2_000_000}]
    listed = await client.request("tools/list")
    assert "by its number" in str(listed.result)
    await until(lambda: world.gateway.live.retiring == 0, 20.0)


async def test_streams_end_where_it_is_decided_anew_who_comes_in(everyone: Everyone) -> None:
    """They are taken up again by who is still let in, without a loss."""
    await everyone.change(CONFIGURATION.replace("auth:\n", "auth:\n  cache: {max_age: 4m}\n"))
    await everyone.session.rest()
    assert await everyone.sse.stream.rest() == []
    await until(lambda: len(everyone.world.gateway.sessions) == 1, 5.0)
    assert (await everyone.sse.request("ping")).status == 404
    await everyone.change(OTHER.replace("auth:\n", "auth:\n  cache: {max_age: 4m}\n"))
    async with everyone.client.listen() as again:
        events = [await again.event(), await again.event()]
        assert [bool(event.data) and event.message["method"] for event in events] == [False, CHANGED]
    async with connected(everyone.world) as sse:
        await sse.request("ping", identifier="new")
        assert (await sse.message())["id"] == "new"


async def test_a_token_that_is_no_longer_good_reaches_no_session(everyone: Everyone) -> None:
    await everyone.change(CONFIGURATION.replace("https://gateway.test/mcp", "https://other.test/mcp"))
    await everyone.session.rest()
    assert (await everyone.client.request("tools/list")).status == 401
    assert (await everyone.client.send(None, method="GET")).status == 401
    assert (await everyone.sse.request("ping")).status == 401
    await everyone.change(CONFIGURATION)
    assert (await everyone.client.request("tools/list")).status == 200
