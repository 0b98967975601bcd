"""Streams that take their connection over, on both event loops, in the clear and in TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.server import listen
from tests.server.raw import Wire, connect, post
from tests.server.streams import HELLO, settled, until
from tests.servers.certificates import Authority
from tests.world import CONFIGURATION, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHANGED = "notifications/tools/list_changed"


@dataclass
class Place:
    """A gateway, and how its clients trust it."""

    world: World
    context: ssl.SSLContext | None

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        async with connect(self.world.base, self.context) as wire:
            yield wire

    async def headers(self) -> list[str]:
        token = self.world.provider.issue("reader", lifetime=600)
        return [f"Authorization: Bearer {token}", "Accept: application/json, text/event-stream"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["plain", "tls"])
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder: Path = tmp_path_factory.mktemp("streams")
    text, context = CONFIGURATION + "features: {sessions: true}\n", None
    if request.param == "tls":
        authority = Authority(folder / "authority")
        pair = authority.issue("localhost", days=30.0, address="127.0.0.1")
        text = text.replace("port: 0}", f"port: 0, tls: {{certificate: {pair.certificate}, key: {pair.key}}}}}", 1)
        context = ssl.create_default_context(cafile=str(authority.path))
    async with open_world(folder, text) as world:
        await settled(world)
        yield Place(world, context)


async def _head(wire: Wire) -> str:
    async with asyncio.timeout(10):
        return (await wire.reader.readuntil(b"\r\n\r\n")).decode()


async def _message(wire: Wire) -> dict[str, Any]:
    """The next event's."""
    async with asyncio.timeout(20):
        while not (line := await wire.reader.readline()).startswith(b"data: {"):
            assert line, "the stream is over"
    found: dict[str, Any] = json.loads(line[6:])
    return found


async def _listen(place: Place, wire: Wire, version: bytes = b"HTTP/1.1") -> str:
    body = envelope(listen.METHOD, {"notifications": {"toolsListChanged": True}})
    more = [*(f"{name}: {value}" for name, value in routing(body).items()), *await place.headers()]
    await wire.send(post(json.dumps(body).encode(), *more).replace(b"HTTP/1.1", version, 1))
    head = await _head(wire)
    assert head.startswith(("HTTP/1.1 200", "HTTP/1.0 200"))
    assert (await _message(wire))["method"] == "notifications/subscriptions/acknowledged"
    return head.lower()


async def test_a_listener_hears_and_is_missed_when_it_leaves(place: Place) -> None:
    announcements, listening = place.world.gateway.announcements, place.world.gateway.snapshot.listening
    async with place.wire() as wire:
        head = await _listen(place, wire)
        assert "transfer-encoding: chunked" in head
        assert "connection: close" in head
        for _ in range(2):
            announcements.announce_tools_changed()
            assert (await _message(wire))["method"] == CHANGED
        assert len(listening) == 1
    await until(lambda: len(listening) == 0, 10.0)


async def test_an_http_1_0_client_reads_to_the_end_of_the_connection(place: Place) -> None:
    async with place.wire() as wire:
        assert "transfer-encoding" not in await _listen(place, wire, b"HTTP/1.0")
        (hearer,) = [each for each in place.world.gateway.announcements._hearers if hasattr(each, "_line")]
        hearer.end()
        rest = await wire.until_closed()
        (last,) = [line for line in rest.splitlines() if line.startswith(b"data: ")]
        assert json.loads(last[6:])["result"]["_meta"][listen.ENDED] == "shutdown"


async def _pour(wire: Wire) -> None:
    while True:
        await wire.send(b"x" * 10_000)
        await asyncio.sleep(0)


async def test_what_a_client_sends_on_a_stream_is_thrown_away_and_a_flood_ends_it(place: Place) -> None:
    async with place.wire() as wire:
        await _listen(place, wire)
        await wire.send(post(b"{}"))
        place.world.gateway.announcements.announce_tools_changed()
        assert (await _message(wire))["method"] == CHANGED
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_pour(wire), 20)
    await until(lambda: len(place.world.gateway.snapshot.listening) == 0, 10.0)


async def test_a_reader_that_is_slow_but_steady_gets_everything_in_order(place: Place) -> None:
    """More than any buffer holds, while the other end reads a little at a time."""
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
    async with place.wire() as wire, place.wire() as other:
        await other.send(post(json.dumps(hello).encode(), *await place.headers()))
        _, headers, _ = await other.answer()
        session = place.world.gateway.sessions._all[headers["mcp-session-id"]]
        lines = [*await place.headers(), f"Mcp-Session-Id: {session.id}", "Host: localhost"]
        await wire.send("\r\n".join(["GET /mcp HTTP/1.1", *lines, "", ""]).encode())
        await _head(wire)
        numbers, text = [], "x" * 200_000
        for number in range(60):
            note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"n": number, "data": text}}
            session.announce(json.dumps(note).encode())
            if number % 4 == 3:
                numbers += [(await _long(wire))["params"]["n"] for _ in range(4)]
        assert numbers == list(range(60))
        place.world.gateway.sessions.end(session)
        assert b"data: " not in await wire.until_closed()


async def _long(wire: Wire) -> dict[str, Any]:
    """The next event's message, however long; one chunk of the transfer coding is one event."""
    async with asyncio.timeout(20):
        event = b""
        while b"data: {" not in event:
            event = await wire.reader.readexactly(int(await wire.reader.readline(), 16) + 2)
    found: dict[str, Any] = json.loads(event[event.index(b"data: ") + 6 : -2])
    return found
