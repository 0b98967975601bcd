"""The SDK's own clients with sessions and with HTTP+SSE, to the end; connections break where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
import pytest_asyncio
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from gateway.server.sessions import Session, StreamableSession
from gateway.server.sessions_reader import Reader
from tests.server.streams import settled, until
from tests.world import CONFIGURATION as PLAIN
from tests.world import World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("sdk")
    async with open_world(folder, PLAIN + "features: {sessions: true, http_sse: true}\n") as world:
        await settled(world)
        yield world


class _Messages:
    """What the server says of itself."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    async def __call__(self, message: object) -> None:
        method = str(getattr(message, "method", type(message).__name__))
        if method != "notifications/progress":
            self.methods.append(method)


@asynccontextmanager
async def _streamable(world: World, heard: _Messages) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {await world.credentials().token()}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        streamable_http_client(world.gateway.url, http_client=http) as streams,
        ClientSession(streams[0], streams[1], message_handler=heard) as session,
    ):
        await session.initialize()
        yield session


@asynccontextmanager
async def _sse(world: World, heard: _Messages) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {await world.credentials().token()}"}
    async with (
        sse_client(world.base + "/sse", headers=headers) as streams,
        ClientSession(streams[0], streams[1], message_handler=heard) as session,
    ):
        await session.initialize()
        yield session


Connecting = Callable[[World, _Messages], AbstractAsyncContextManager[ClientSession]]


@pytest.mark.parametrize("transport", [_streamable, _sse])
async def test_list_call_progress_change_and_cancel(world: World, transport: Connecting) -> None:
    heard, stages = _Messages(), list[str]()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        stages.append(message or "")

    async with transport(world, heard) as session:
        await until(lambda: any(each.is_connected for each in world.gateway.sessions._all.values()), 5.0)
        assert "customer_by_id" in [tool.name for tool in (await session.list_tools()).tools]
        found = await session.call_tool("customer_by_id", {"id": 3}, progress_callback=on_progress)
        assert found.structured_content["row_count"] == 1
        assert len(stages) >= 3
        world.gateway.announcements.announce_tools_changed()
        await until(lambda: bool(heard.methods), 5.0)
        assert heard.methods == ["notifications/tools/list_changed"]
        with anyio.move_on_after(0.3) as scope:
            await session.call_tool("count_slowly", {"n": 10**9})
        assert scope.cancelled_caught
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)
        assert not (await session.call_tool("customer_by_id", {"id": 4})).is_error
    await until(lambda: len(world.gateway.sessions) == 0, 5.0)


async def test_the_client_resumes_an_answer_by_itself(world: World) -> None:
    """Its connection breaks while the call runs; it comes back with Last-Event-ID, and the call has one result."""
    stages = list[str]()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        stages.append(message or "")

    async with _streamable(world, _Messages()) as session:
        call = session.call_tool("count_slowly", {"n": 6_000_000}, progress_callback=on_progress)
        running = asyncio.create_task(call)
        (here,) = world.gateway.sessions._all.values()
        # Before its first event a client has nothing to come back with.
        await until(lambda: bool(stages) and _post_reader(here) is not None, 5.0)
        reader = _post_reader(here)
        assert reader is not None
        reader.cut("broken by the test")
        result = await running
        assert result.structured_content["rows"] == [{"counted": 6_000_000}]


def _post_reader(session: Session) -> Reader | None:
    """The connection that reads the answer to a request."""
    assert isinstance(session, StreamableSession)
    return next((stream.reader for stream in session.log.streams.values() if stream.number and stream.reader), None)


async def test_the_client_learns_that_its_session_is_over(world: World) -> None:
    async with _streamable(world, _Messages()) as session:
        for here in list(world.gateway.sessions._all.values()):
            world.gateway.sessions.end(here)
        with pytest.raises(MCPError, match="no such session"):
            await session.list_tools()
