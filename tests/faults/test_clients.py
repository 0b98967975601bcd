"""Clients that leave, dawdle, never finish, and send what nobody should send."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.faults.backends import FACTS, Postgresql, label
from tests.faults.calls import OK, headers, request
from tests.faults.trial import trial
from tests.faults.world import World, seconds
from tests.servers.local import HOST

pytestmark = pytest.mark.asyncio(loop_scope="session")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def raw(world: World, body: bytes, more: Mapping[str, str], client: str = "agent-3") -> bytes:
    """A request as bytes."""
    fields = {"Host": HOST, **headers(world.provider.mint(client)), "Content-Length": str(len(body)), **more}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + body


@asynccontextmanager
async def connected(world: World, **how: Any) -> AsyncIterator[Streams]:
    """A connection of ours; it ends with RST, without a goodbye."""
    reader, writer = await asyncio.open_connection(HOST, world.gateway.port, **how)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def status(streams: Streams) -> int:
    """The status of an answer; 0 when the connection just ends."""
    with suppress(ConnectionError):
        if line := await asyncio.wait_for(streams[0].readline(), 15):
            return int(line.split()[1])
    return 0


async def in_parallel(count: int, at_once: int, work: Any) -> list[Any]:
    """So many of them, not too many at a time."""
    turns = asyncio.Semaphore(at_once)

    async def one(number: int) -> Any:
        async with turns:
            return await work(number)

    return await asyncio.gather(*(one(number) for number in range(count)))


async def test_clients_that_disconnect(world: World) -> None:
    """Their queries end in the database, long before they would; nobody else waits for them."""
    postgresql = world.backends["postgresql"]
    assert isinstance(postgresql, Postgresql)
    body, more = request("postgresql_busy", {"id": 1, "seconds": 2.8})
    sent = raw(world, body, more)
    busy = (
        "select 1 from pg_stat_activity where usename = 'gateway' and state = 'active'"
        " and query like '%pg_sleep%' and query not like '%0.15%'"
    )
    count = round(seconds(2000, 300))
    log_size = world.gateway.log.stat().st_size
    before = await begun(world)

    async def leave(number: int) -> None:
        async with connected(world) as (_, writer):
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(0.05 + number % 10 / 50)

    async with trial(world, f"{count} clients disconnect in mid-query", is_felt=False):
        await in_parallel(count, 60, leave)
        async with asyncio.timeout(20):
            while await postgresql.fetch(busy):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.05)
    with world.gateway.log.open() as log:
        log.seek(log_size)
        ended = Counter(line["outcome"] for line in map(json.loads, log) if line.get("tool") == "postgresql_busy")
    assert ended["disconnected"] > count / 2, ended
    assert not ended["statement_timeout"], ended  # none ran on until the database or we stopped it for its length
    assert await begun(world) > before


async def begun(world: World) -> int:
    """How many of the slow statements were begun in the database so far."""
    name = "db_client_operation_duration_seconds_count"
    return (await world.gateway.total(name, db_query_summary="postgresql_busy")).total()


async def test_slow_readers(world: World) -> None:
    """Who does not read his large answer holds no connection to the database, and memory for one answer."""
    body, more = request("postgresql_bulk", {"id": FACTS})
    sent = raw(world, body, more)

    async def dawdle(_: int) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, world.gateway.port))
        async with connected_by(sock) as (reader, writer):
            writer.write(sent)
            for _ in range(round(seconds(20, 2))):
                await reader.read(100)
                await asyncio.sleep(1)

    async with trial(world, "40 clients read large answers slowly", is_felt=False):
        await in_parallel(40, 40, dawdle)


@asynccontextmanager
async def connected_by(sock: socket.socket) -> AsyncIterator[Streams]:
    """Streams that take little at a time."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_half_open_requests(world: World) -> None:
    """Heads and bodies that never end are ended by the gateway; who has sent nothing just goes."""
    whole = raw(world, b"{" + b" " * 500, {})
    begun = (whole[:20], whole[: whole.index(b"\r\n\r\n")], whole[:-200])

    async def begin(number: int) -> int:
        async with connected(world) as streams:
            streams[1].write(begun[number % 3])
            return await status(streams)

    async with trial(world, "300 requests that are never finished", is_felt=False):
        found = Counter(await in_parallel(300, 300, begin))
    assert found.keys() <= {0, 408}, found


async def test_malformed_requests(world: World) -> None:
    """A thousand in a second, for some seconds: each is refused for what it is, and nobody else is."""
    good, more = request("postgresql_read", {"id": 1})
    malformed = (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", {400}),
        (b"POST /mcp HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nContent-Length: 2\r\n\r\n{}", {401}),
        (raw(world, b'{"jsonrpc": "2.0", "id": ', {}), {400}),
        (raw(world, b"[" * 10_000, {}), {400}),
        (raw(world, json.dumps({"jsonrpc": "2.0", "id": {}, "method": 5}).encode(), {}), {400}),
        (raw(world, good, more | {"Content-Type": "text/plain"}), {415}),
        (raw(world, good, more | {"Transfer-Encoding": "chunked"}), {400}),
        (raw(world, good.replace(b"postgresql_read", b"no_such_tool"), more), {400}),
    )
    count = round(seconds(20_000, 1_000))
    pace = count / round(seconds(20, 1))

    async def send(number: int) -> tuple[int, int]:
        await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
        async with connected(world) as streams:
            streams[1].write(malformed[number % len(malformed)][0])
            return number % len(malformed), await status(streams)

    log_size = world.gateway.log.stat().st_size
    async with trial(world, f"{count} malformed requests", is_felt=False) as one:
        began = time.monotonic()
        for kind, found in await in_parallel(count, 100, send):
            assert found in malformed[kind][1], (malformed[kind], found)
        one.what += f" in {time.monotonic() - began:.1f} s"
    assert (world.gateway.log.stat().st_size - log_size) / count < 1_000  # bytes for each, the load's lines included


async def test_gzip_bombs(world: World) -> None:
    """Compressed bodies are not unpacked at all."""
    bomb = gzip.compress(bytes(50 << 20))
    sent = raw(world, bomb, {"Content-Encoding": "gzip"})

    async def throw(_: int) -> int:
        async with connected(world) as streams:
            streams[1].write(sent)
            return await status(streams)

    async with trial(world, "100 gzip bombs of 50 MB each", is_felt=False):
        found = Counter(await in_parallel(100, 20, throw))
    assert found.keys() == {415}, found


async def test_deep_json(world: World) -> None:
    """Nested as deep as a body may be long, in places where anything may stand."""
    depth = 400_000
    deep = b"[" * depth + b"]" * depth
    meta = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"postgresql_read","arguments":{"id":%s}}}'
    objects = b'{"a":' * 150_000 + b"1" + b"}" * 150_000
    bodies = [raw(world, body, {}) for body in (deep, meta % deep, meta % objects, deep[:depth])]

    async def send(number: int) -> int:
        async with connected(world) as streams:
            streams[1].write(bodies[number % len(bodies)])
            return await status(streams)

    async with trial(world, "40 bodies nested 400,000 deep", is_felt=False):
        found = Counter(await in_parallel(40, 8, send))
    assert found.keys() == {400}, found


async def test_one_id_for_all(world: World) -> None:
    """A client that gives every request the same id gets each answer where it asked."""

    async def ask(number: int) -> str:
        tool = f"{tuple(world.backends)[number % 3]}_linger"
        expected = [{"id": number + 1, "label": label(number + 1)}]
        outcome = await agent.call(tool, {"id": number + 1}, expected)
        return outcome.word

    async with trial(world, "one client reuses one JSON-RPC id", is_felt=False), world.agent("agent-3") as agent:
        words = await in_parallel(round(seconds(200, 60)), 12, ask)
    assert set(words) == {OK}, Counter(words)
