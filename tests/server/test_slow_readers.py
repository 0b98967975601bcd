"""Clients that stop reading, on real sockets: what waits for them is bounded, and so is the time they get."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.server import crowd, listen
from gateway.server.connection import Connection
from gateway.server.events import Kind
from tests.server.streams import settled, until
from tests.world import CONFIGURATION, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
LARGE = """
  large:
    description: More than any socket holds.
    source: shop
    scopes: ["customers:read"]
    statement: select hex(randomblob(4000000)) as large
    max_result_bytes: 64MiB
"""
MOST_UNSENT = 64 << 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("slow")
    async with open_world(folder, CONFIGURATION + LARGE + "features: {http_sse: true}\n") as world:
        await settled(world)
        yield world


@contextmanager
def asking(
    world: World, token: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], path: str = "/mcp"
) -> Iterator[socket.socket]:
    """A request from a client with hardly any buffer, which nobody reads from."""
    host, port = world.base.removeprefix("http://").split(":")
    raw = json.dumps(body).encode() if body is not None else b""
    sent = {
        "Host": "localhost",
        "Authorization": f"Bearer {token}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Content-Length": str(len(raw)),
        **headers,
    }
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        connection.sendall(f"{'POST' if raw else 'GET'} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw)
        yield connection


def _rest(connection: socket.socket) -> bytes:
    """What comes until the connection breaks."""
    found = b""
    connection.settimeout(20)
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionError:
        pass
    return found


def _unsent() -> int:
    """Bytes that wait in the gateway for all of its clients."""
    return sum(each.unsent for each in gc.get_objects() if isinstance(each, Connection))


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_an_answer_that_nobody_reads(world: World, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    """The database is done with long before; what is left is the answer itself, for as long as a reader has."""
    body = envelope("tools/call", {"name": "large", "arguments": {}}, meta={"progressToken": 1})
    token = await world.credentials().token()
    source = world.gateway.snapshot.sources["shop"]
    used = source.times.use.count
    with asking(world, token, body, {**routing(body), "Accept": accept}) as connection:
        await until(lambda: source.times.use.count > used and source.stats.active == 0, 20.0)
        await until(lambda: _unsent() > 1 << 20, 10.0)
        monkeypatch.setattr(crowd, "SEND_TIMEOUT", 0.3)
        await until(lambda: _unsent() == 0, 10.0)
        assert 0 < len(await asyncio.to_thread(_rest, connection)) < 8_000_000


async def test_a_listener_that_does_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One change waits for it, whatever happens; and not for ever."""
    body = envelope(listen.METHOD, {"notifications": {"toolsListChanged": True}})
    token, listening = await world.credentials().token(), world.gateway.snapshot.listening
    with asking(world, token, body, routing(body)):
        await until(lambda: len(listening) == 1, 10.0)
        (hearer,) = [each for each in world.gateway.announcements._hearers if hasattr(each, "_line")]
        stream = hearer._line._stream
        for _ in range(200_000):
            hearer.tell(Kind.TOOLS)
            if not stream.is_writable:
                break
        assert not stream.is_writable
        for _ in range(1000):
            hearer.tell(Kind.TOOLS)
        assert hearer._pending == {Kind.TOOLS}  # type: ignore[attr-defined]
        assert stream.unsent < 1024
        monkeypatch.setattr(crowd, "SEND_TIMEOUT", 0.3)
        await until(lambda: len(listening) == 0, 10.0)


async def test_a_session_of_http_sse_that_does_not_read(world: World) -> None:
    """More than is kept for it ends the session, and what runs in it."""
    token = await world.credentials().token()
    with asking(world, token, None, {"Accept": "text/event-stream"}, "/sse") as connection:
        await until(lambda: len(world.gateway.sessions) == 1, 10.0)
        (session,) = world.gateway.sessions._all.values()
        note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 60_000}})
        async with asyncio.timeout(20):
            while len(world.gateway.sessions):
                session.announce(note.encode())
                reader = session.reader  # type: ignore[attr-defined]
                assert reader.waiting_bytes <= 1 << 20
                assert reader._stream is None or reader._stream.unsent < MOST_UNSENT
                await asyncio.sleep(0)
        assert reader.reason == "slow_reader"
        assert await asyncio.to_thread(_rest, connection)
