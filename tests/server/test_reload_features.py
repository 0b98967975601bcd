"""Ways in for older clients open and close by a reload, and what runs there finishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.streams import Client, settled, until
from tests.server.test_http_sse import connected
from tests.server.test_reload import CONFIGURATION, reload
from tests.world import World, open_world

SESSIONS = CONFIGURATION + "features: {sessions: true}\n"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, CONFIGURATION) as world:
        await settled(world)
        yield world


async def test_sessions_are_switched_on_and_off(world: World) -> None:
    async with Client(world) as client:
        assert (await client.request("tools/list")).status == 200  # without a session
        replaced = await reload(world, SESSIONS)
        assert (replaced.changes, replaced.waiting) == (("features.sessions",), ())
        assert (await client.request("tools/list")).status == 400
        assert (await client.initialize()).result["capabilities"]["tools"] == {"listChanged": True}
        async with client.listen() as stream:
            await stream.event()
            await reload(world, CONFIGURATION)
            await stream.rest()
        # An older client that goes on naming its session is served, as one of any other server without sessions.
        assert (await client.request("tools/list")).status == 200
        world.gateway.sessions.end_idle()
        assert len(world.gateway.sessions) == 0


async def test_listeners_of_sessions_that_came_by_a_reload_hear_of_changes(world: World) -> None:
    await reload(world, SESSIONS)
    async with Client(world) as client:
        await client.initialize()
        async with client.listen() as stream:
            await stream.event()
            world.gateway.announcements.announce_tools_changed()
            assert (await stream.event()).message["method"] == "notifications/tools/list_changed"


async def test_a_call_of_a_session_finishes_after_sessions_are_off(world: World) -> None:
    await reload(world, SESSIONS)
    async with Client(world) as client:
        await client.initialize()
        async with client.stream("count_slowly", n=2_000_000) as stream:
            assert len(list(client.here.running)) == 1
            await reload(world, CONFIGURATION)
            assert len(world.gateway.sessions) == 1
            answer = (await stream.rest())[-1].message
        assert answer["result"]["structuredContent"]["rows"] == [{"counted": 2_000_000}]
        world.gateway.sessions.end_idle()
        assert len(world.gateway.sessions) == 0


async def test_http_sse_is_switched_on_and_off(world: World) -> None:
    sse = CONFIGURATION + "features: {http_sse: true}\n"
    assert (await world.send(None, method="GET", url=f"{world.base}/sse")).status == 404
    await reload(world, sse)
    async with connected(world) as client:
        assert (await client.request("ping")).status == 202
        assert (await client.message())["result"] == {}
        await client.call("count_slowly", n=2_000_000)
        await reload(world, CONFIGURATION)
        assert (await client.message())["result"]["structuredContent"]["rows"] == [{"counted": 2_000_000}]
        assert await client.stream.rest() == []  # the stream ends after the last answer
        assert (await client.request("ping")).status == 404
    await until(lambda: len(world.gateway.sessions) == 0, 5.0)


async def test_bounds_change_for_sessions_that_are_open(world: World) -> None:
    await reload(world, SESSIONS)
    clients = [Client(world, subject=subject) for subject in ("reader", "clerk", "reader")]
    for client in clients:
        await client.initialize()
    await reload(world, SESSIONS.replace("true}", "true, max_sessions: 1, max_sessions_per_client: 1}"))
    assert len(world.gateway.sessions) == 1
    assert [(await client.request("ping")).status for client in clients] == [404, 404, 200]
