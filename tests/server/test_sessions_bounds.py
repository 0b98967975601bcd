"""What bounds sessions: number, idle life, tokens, slow readers, shutdown; and the line that each request leaves."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.features import FeatureSettings
from gateway.errors import RateLimited, Refused
from gateway.server import sessions_reader
from gateway.server.sessions import Sessions, StreamableSession
from tests.server.streams import Client, Stream, settled, until
from tests.tally import Tally
from tests.world import CONFIGURATION as PLAIN
from tests.world import World, open_world

ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))


@asynccontextmanager
async def _world(folder: Path, **features: object) -> AsyncIterator[World]:
    settings = "".join(f"  {name}: {value}\n" for name, value in {"sessions": "true", **features}.items())
    async with open_world(folder, f"{PLAIN}features:\n{settings}") as world:
        await settled(world)
        yield world


def _session(sessions: Sessions, subject: str = "someone") -> StreamableSession:
    return StreamableSession(("https://issuer", subject), "/mcp", "2025-11-25", sessions.budget)


async def test_a_clients_longest_idle_session_makes_room(tmp_path: Path) -> None:
    async with _world(tmp_path, max_sessions_per_client=2, max_sessions=3) as world:
        first, second, third = Client(world), Client(world), Client(world)
        await first.initialize()
        await second.initialize()
        assert (await first.request("ping")).status == 200
        await third.initialize()
        assert (await second.request("ping")).status == 404
        assert (await first.request("ping")).status == 200
        async with first.listen(), third.listen():
            hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": _hello()}
            refused = await world.send(hello)
            assert (refused.status, refused.error["code"]) == (429, -32005)
            assert "Retry-After" in refused.headers
            other = await world.send(hello, client="clerk")
            assert other.status == 200


def _hello() -> dict[str, object]:
    return {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


async def test_all_sessions_together_are_bounded() -> None:
    sessions = Sessions(FeatureSettings(max_sessions=2, max_sessions_per_client=2))
    for subject in "abc":
        sessions.enter(_session(sessions, subject))
    assert [session.owner[1] for session in sessions._all.values()] == ["b", "c"]
    readers = [session.log.listen() for session in sessions._all.values() if isinstance(session, StreamableSession)]
    with pytest.raises(Refused) as refused:
        sessions.enter(_session(sessions, "d"))
    assert (refused.value.status, len(readers)) == (503, 2)
    sessions = Sessions(FeatureSettings(max_sessions_per_client=1))
    sessions.enter(busy := _session(sessions))
    busy.log.listen()
    with pytest.raises(RateLimited):
        sessions.enter(_session(sessions))


async def test_idle_sessions_end_and_busy_ones_do_not(tmp_path: Path) -> None:
    async with _world(tmp_path, session_idle_timeout="200ms") as world:
        idle, listening = Client(world), Client(world)
        await idle.initialize()
        await listening.initialize()
        async with listening.listen() as stream:
            await stream.event()
            await until(lambda: len(world.gateway.sessions) == 1, 2.0)
            assert (await idle.request("ping")).status == 404
            assert (await listening.request("ping")).status == 200
        await until(lambda: len(world.gateway.sessions) == 0, 2.0)


async def test_a_stream_ends_with_its_token(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        client = Client(world)
        client.token = world.provider.issue("reader", lifetime=2)
        await client.initialize()
        async with client.listen() as stream:
            assert [event.data for event in await stream.rest()] == [""]
        assert not client.here.is_connected


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, object]]]:
    """The log lines of requests, as they come."""
    found: list[dict[str, object]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(vars(record))

    handler, logger = Handler(), logging.getLogger("gateway.request")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_each_request_leaves_one_line_when_it_is_over(tmp_path: Path, lines: list[dict[str, object]]) -> None:
    async with _world(tmp_path) as world:
        client = Client(world)
        await client.initialize()
        async with client.stream("count_slowly", n=2_000_000) as stream:
            await stream.event()
        # Its client has left; the line comes with the end of the work, and tells of it.
        await until(lambda: len(lines) == 2, 10.0)
        line = lines[-1]
        assert (line["status"], line["outcome"], line["tool"], line["rows"]) == (200, "ok", "count_slowly", 1)
        assert line["client"] == "reader"
        async with client.stream("count_slowly", n=10**9) as stream:
            await stream.event()
        await client.cancel(stream.request_id)
        await until(lambda: len(lines) == 4, 5.0)
        assert {str(line["outcome"]) for line in lines[2:]} == {"ok", "cancelled"}
        async with client.listen() as stream:
            await stream.event()
        await until(lambda: len(lines) == 5, 5.0)
        assert (lines[-1]["http_method"], lines[-1]["outcome"]) == ("GET", "disconnected")
        await client.send(None, method="DELETE")
        assert (lines[-1]["http_method"], lines[-1]["status"]) == ("DELETE", 204)
        await client.request("ping")
        assert (lines[-1]["status"], lines[-1]["outcome"], len(lines)) == (404, "refused", 7)


async def test_shutdown_ends_streams_at_once_and_sees_work_through(
    tmp_path: Path, lines: list[dict[str, object]]
) -> None:
    async with asyncio.timeout(15):
        async with _world(tmp_path) as world:
            client = Client(world)
            await client.initialize()
            listening = await world.http.get(client.url, headers=await client.signed())
            await Stream(listening).event()
            async with client.stream("count_slowly", n=1_500_000) as stream:
                await stream.event()
            started = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - started
    assert took < 10
    assert [(line["outcome"], line["rows"]) for line in lines if line.get("tool")] == [("ok", 1)]


async def test_a_reader_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_reader, "WRITE_SECONDS", 0.2)
    async with _world(tmp_path) as world:
        client = Client(world)
        await client.initialize()
        host, port = world.base.removeprefix("http://").split(":")
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect((host, int(port)))
            head = "".join(f"{name}: {value}\r\n" for name, value in (await client.signed()).items())
            raw.sendall(f"GET /mcp HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n".encode())
            await until(lambda: client.here.is_connected, 5.0)
            number = 0
            async with asyncio.timeout(10):
                while client.here.is_connected:
                    number += 1
                    note = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d,"data":"%s"}}'
                    client.here.announce(note % (number, b"x" * 60_000))
                    await asyncio.sleep(0)
        log = client.here.log  # type: ignore[attr-defined]
        assert log._size <= 1 << 20
        assert (await client.request("ping")).status == 200


async def test_thousands_of_idle_sessions_are_cheap(tally: Tally) -> None:
    count = 100 * min(ROUNDS, 50)
    sessions = Sessions(FeatureSettings(max_sessions_per_client=count))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        sessions.enter(_session(sessions, f"subject-{number % 500}"))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    each = (after - before) / count
    tally(f"{each:.0f} bytes for each of {count} idle sessions")
    assert len(sessions) == count
    assert each < 2048
    await sessions.announce(b"{}")
    assert sessions.budget.used == 2 * count
    for session in list(sessions._all.values()):
        sessions.end(session)
    assert (len(sessions), sessions.budget.used, sessions._of_owner) == (0, 0, {})
