"""The end of the process: what runs longer than the grace is stopped in the database and answered, in every framing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.server import listener
from tests.server.raw import connect
from tests.server.streams import Client, Stream, settled, until
from tests.world import CONFIGURATION as PLAIN
from tests.world import World, envelope, open_world, routing

CONFIGURATION = (
    PLAIN.replace("port: 0}", "port: 0, shutdown_grace: 500ms}", 1) + "features: {SESSIONS, http_sse: true}\n"
)
LONG = 10**9
COUNT: dict[str, Any] = {"name": "count_slowly", "arguments": {"n": LONG}}
WRITE: dict[str, Any] = {"name": "rename_slowly", "arguments": {"id": 1, "name": "Lost", "n": LONG}}


@asynccontextmanager
async def stopping(folder: Path, *, sessions: bool = False) -> AsyncIterator[tuple[World, asyncio.Event]]:
    """A gateway that stops when the event is set; its client goes on reading."""
    text = CONFIGURATION.replace("SESSIONS", f"sessions: {str(sessions).lower()}")
    stop = asyncio.Event()
    started: asyncio.Future[World] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with open_world(folder, text) as world:
            await settled(world)
            world.http, own = http, world.http
            started.set_result(world)
            await stop.wait()
            world.http = own

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        group.create_task(run())
        yield await started, stop
        stop.set()


async def active(world: World, count: int, source: str = "shop") -> None:
    await until(lambda: world.gateway.snapshot.sources[source].stats.active == count, 10.0)


def check(message: Mapping[str, Any], words: str = "repeat it") -> None:
    assert message["error"]["code"] == -32008, message
    assert words in message["error"]["message"]


async def test_answers_without_a_session(tmp_path: Path) -> None:
    async with stopping(tmp_path) as (world, stop):
        plain, told = envelope("tools/call", COUNT), envelope("tools/call", COUNT, meta={"progressToken": "p"})
        asked = [
            world.send(plain, headers={**routing(plain), "Accept": "application/json"}),
            world.send(told, headers=routing(told)),
            world.legacy("tools/call", COUNT),
            world.legacy("tools/call", WRITE, client="clerk"),
        ]
        tasks = [asyncio.create_task(each) for each in asked]
        await active(world, 3)
        await active(world, 1, "shop_rw")
        stop.set()
        modern, stream, old, write = await asyncio.gather(*tasks)
    assert (modern.status, modern.headers["Retry-After"]) == (503, "5")
    assert stream.status == 200
    assert [event.get("method", "last") for event in stream.events][-2:] == ["notifications/progress", "last"]
    assert (old.status, write.status) == (503, 503)
    for reply in (modern, stream, old):
        check(reply.message)
    check(write.message, "may or may not have happened")


async def test_answers_in_a_session(tmp_path: Path) -> None:
    async with stopping(tmp_path, sessions=True) as (world, stop):
        client = Client(world)
        await client.initialize()
        json_only = asyncio.create_task(
            client.request("tools/call", COUNT, headers={"Accept": "application/json"}, identifier="j")
        )
        async with client.stream("count_slowly", n=LONG) as stream, client.listen() as standalone:
            await active(world, 2)
            stop.set()
            *_, last = await stream.rest()
            check(last.message)
            assert [event.data for event in await standalone.rest() if event.data] == []
        reply = await json_only
        check(reply.message)
        assert (reply.status, reply.message["id"]) == (503, "j")
        refused = asyncio.create_task(client.request("ping"))
        with pytest.raises(aiohttp.ClientError):
            await refused


async def test_answers_of_http_sse(tmp_path: Path) -> None:
    async with stopping(tmp_path) as (world, stop):
        headers = {"Authorization": f"Bearer {await world.credentials().token()}", "Accept": "text/event-stream"}
        async with world.http.get(world.base + "/sse", headers=headers) as response:
            stream = Stream(response)
            address = (await stream.event()).data
            call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": COUNT}
            assert (await world.send(call, url=world.base + address)).status == 202
            await active(world, 1)
            stop.set()
            (last,) = await stream.rest()
    check(last.message)
    assert last.message["id"] == 7


async def test_a_client_that_does_not_read_cannot_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grace and last word together bound it, whatever waits in its buffers."""
    monkeypatch.setattr(listener, "LAST_WORD", 0.2)
    async with stopping(tmp_path, sessions=True) as (world, stop):
        client = Client(world)
        await client.initialize()
        async with connect(world.base) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            head = "".join(f"{name}: {value}\r\n" for name, value in (await client.signed()).items())
            await wire.send(f"GET /mcp HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
            await until(lambda: client.here.is_connected, 5.0)
            note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 500_000}})
            for _ in range(20):
                client.here.announce(note.encode())
            stop.set()
            async with asyncio.timeout(15):
                await until(lambda: not len(world.gateway.sessions), 15)
