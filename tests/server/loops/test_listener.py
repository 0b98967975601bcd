"""The listener against clients that are slow, greedy, broken or many; it goes on answering the others."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.server import crowd
from tests.server.raw import Wire, connect, post
from tests.world import CONFIGURATION, World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
HASTY = CONFIGURATION.replace(
    "server: {host: 127.0.0.1, port: 0}",
    "server: {host: 127.0.0.1, port: 0, header_timeout: 400ms, body_timeout: 400ms, max_connections: 300}",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway with little patience."""
    async with open_world(tmp_path_factory.mktemp("hasty"), HASTY) as world:
        yield world


async def _authorization(world: World) -> str:
    return f"Authorization: Bearer {await world.credentials().token()}"


async def _answers(world: World) -> None:
    reply = await world.call("customer_by_id", {"id": 7})
    assert reply.result["structuredContent"]["row_count"] == 1


async def _send_on(wire: Wire, data: bytes) -> None:
    while True:
        await wire.send(data)
        await asyncio.sleep(0)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _health(world: World) -> None:
    """On a connection of its own."""
    async with connect(world.base) as wire:
        await wire.send(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.answer())[0] == 200


async def _status(wire: Wire) -> int:
    """Of the answer; 0 where the connection was closed instead."""
    try:
        return (await wire.answer())[0]
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0


async def _open(stack: AsyncExitStack, world: World, data: bytes = b"") -> Wire:
    wire = await stack.enter_async_context(connect(world.base))
    if data:
        await wire.send(data)
    return wire


class TestTime:
    async def test_who_sends_nothing_is_hung_up_on(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            began = time.monotonic()
            assert await wire.until_closed() == b""
            assert 0.3 < time.monotonic() - began < 3

    async def test_a_head_in_dribbles_is_408_however_lively_it_is(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            began = time.monotonic()
            await wire.send(b"POST /mcp HTTP/1.1\r\n")

            async def dribble() -> None:
                number = 0
                while True:
                    number += 1
                    await wire.send(f"X-{number}: a\r\n".encode())
                    await asyncio.sleep(0.02)

            dribbling = asyncio.create_task(dribble())
            status, headers, _ = await wire.answer()
            dribbling.cancel()
            await asyncio.gather(dribbling, return_exceptions=True)
            assert (status, headers["connection"]) == (408, "close")
            assert 0.3 < time.monotonic() - began < 3

    async def test_the_second_head_has_no_more_time_than_the_first(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            await wire.send(post(b"{}"))
            assert (await wire.answer())[0] == 401
            await wire.send(b"POST /mcp HTTP/1.1\r\nHost: loc")
            assert (await wire.answer())[0] == 408

    async def test_an_idle_connection_is_kept_for_longer_than_a_head_may_take(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            for _ in range(3):
                await wire.send(post(b"{}"))
                assert (await wire.answer())[0] == 401
                await asyncio.sleep(0.7)

    async def test_half_a_body_is_408(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            await wire.send(post(b'{"half', await _authorization(hasty), length=100))
            status, _, body = await wire.answer()
            assert status == 408
            assert b"0.4 s" in body

    async def test_a_reader_that_stops_reading_is_dropped(self, hasty: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(crowd, "SEND_TIMEOUT", 0.5)
        async with connect(hasty.base) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            many = (b"GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: localhost\r\n\r\n") * 500
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(_send_on(wire, many), 20)
        await _answers(hasty)


class TestSizes:
    async def test_a_huge_declared_body_is_413_while_it_is_still_sent(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            sending = asyncio.create_task(
                wire.send(post(b" " * (4 << 20), await _authorization(hasty), length=10 << 30))
            )
            status, headers, body = await wire.answer()
            assert (status, headers["connection"]) == (413, "close")
            assert b"1048576" in body
            await wire.until_closed()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def test_an_endless_chunked_body_is_413_while_it_is_still_sent(self, hasty: World) -> None:
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{await _authorization(hasty)}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        async with connect(hasty.base) as wire:
            await wire.send(head.encode())

            async def pour() -> int:
                sent = 0
                chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
                while True:
                    await wire.send(chunk)
                    sent += 0x10000
                    if sent > 1 << 30:
                        return sent

            pouring = asyncio.create_task(pour())
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (413, "close")
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(pouring, 10)

    async def test_a_long_request_line_is_414(self, hasty: World) -> None:
        for path in (b"/" + b"a" * 9000, b"/?" + b"q" * 60_000):
            async with connect(hasty.base) as wire:
                await wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await wire.answer())[0] == 414
                assert await wire.until_closed() == b""

    @pytest.mark.parametrize("first", [1, 7, 4096, 1 << 20])
    async def test_large_and_many_headers_are_431_wherever_the_stream_is_cut(self, hasty: World, first: int) -> None:
        line = b"GET /healthz/live HTTP/1.1\r\n"
        large = line + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n"
        total = line + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 900) for number in range(40)) + b"\r\n"
        many = line + b"".join(b"X-%d: a\r\n" % number for number in range(150)) + b"\r\n"
        for head in (large, total, many):
            async with connect(hasty.base) as wire:
                await wire.send(head[:first])
                await asyncio.sleep(0.01)
                await wire.send(head[first:])
                assert (await wire.answer())[0] == 431
        await _answers(hasty)

    async def test_an_endless_header_is_431_while_it_is_still_sent(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 40_000)
            await wire.send(b"a" * (1 << 20))
            assert (await wire.answer())[0] == 431

    async def test_heads_just_below_the_bounds_are_served(self, hasty: World) -> None:
        fields = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 300) for number in range(90))
        query = b"GET /healthz/live?" + b"q" * 8000 + b" HTTP/1.1\r\nHost: localhost\r\n"
        for head in (query + b"\r\n", query[:18] + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"):
            for cut in (len(head), 10, len(head) - 3, len(head) - 1):
                async with connect(hasty.base) as wire:
                    await wire.send(head[:cut])
                    await asyncio.sleep(0.01)
                    await wire.send(head[cut:])
                    assert (await wire.answer())[0] == 200

    async def test_a_body_that_looks_like_heads_is_only_a_body(self, hasty: World) -> None:
        body = b"\r\n\r\n".join([b"x" * 9000] * 30) + b"\n" * 500
        async with connect(hasty.base) as wire:
            for cut in (len(body), 100, 200_000):
                await wire.send(post(body[:cut], await _authorization(hasty), length=len(body)))
                await asyncio.sleep(0.01)
                await wire.send(body[cut:])
                assert (await wire.answer())[0] == 400


class TestGarbage:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"\x00" * 500,
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\nHost: localhost\n\n",
            b"GET  / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nsecret-value-here without colon\r\n\r\n",
        ],
    )
    async def test_what_is_no_http_gets_a_plain_400(self, hasty: World, data: bytes) -> None:
        async with connect(hasty.base) as wire:
            await wire.send(data)
            status, headers, body = await wire.answer()
            assert (status, body) == (400, b"Bad Request\n")
            assert headers["x-content-type-options"] == "nosniff"
            assert "aiohttp" not in headers["server"]
            await wire.until_closed()
        await _answers(hasty)

    async def test_a_broken_chunk_in_a_body_is_a_body_that_never_arrives(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{await _authorization(hasty)}\r\n"
            await wire.send(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            await asyncio.sleep(0.05)
            await wire.send(b"zz\r\nnonsense\r\n")
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (408, "close")
            await wire.until_closed()

    async def test_garbage_after_an_answer_is_400_and_the_end(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            await wire.send(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await wire.answer())[0] == 200
            await wire.send(b"\x00\xff\x00garbage\r\n\r\n")
            assert (await wire.answer())[0] == 400
            assert await wire.until_closed() == b""

    async def test_pipelined_requests_are_answered_in_turn(self, hasty: World) -> None:
        async with connect(hasty.base) as wire:
            await wire.send((b"\r\nGET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n") * 50)
            assert [(await wire.answer())[0] for _ in range(50)] == [200] * 50

    async def test_a_thousand_malformed_requests_are_few_lines(
        self, hasty: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        caplog.clear()
        for _ in range(200):
            async with connect(hasty.base) as wire:
                await wire.send(b"\x00secret\r\n\r\n" * 5)
                assert (await wire.answer())[0] == 400
        lines = [record for record in caplog.records if record.name.startswith(("gateway", "aiohttp.server"))]
        assert len(lines) <= 2
        assert not [record for record in caplog.records if record.exc_info]
        assert "secret" not in caplog.text


class TestMany:
    async def test_beyond_the_limit_the_silent_make_room_before_the_idle(self, hasty: World) -> None:
        async with AsyncExitStack() as stack:
            half = await _open(stack, hasty, post(b"{", await _authorization(hasty), length=100))
            keeper = await _open(stack, hasty, post(b"{}"))
            assert (await keeper.answer())[0] == 401
            silent = [await _open(stack, hasty) for _ in range(280)]
            await asyncio.sleep(0.25)
            for _ in range(60):
                await _open(stack, hasty)
            assert await silent[0].until_closed() == b""
            await keeper.send(post(b"{}"))
            assert (await keeper.answer())[0] == 401
            assert (await half.answer())[0] == 408

    async def test_where_none_is_silent_the_longest_idle_makes_room_and_who_works_stays(self, tmp_path: Path) -> None:
        # On a busy machine hundreds of connections take longer than little patience lasts.
        text = HASTY.replace("header_timeout: 400ms, body_timeout: 400ms", "header_timeout: 8s, body_timeout: 3s")
        async with open_world(tmp_path, text) as world, AsyncExitStack() as stack:
            idle = [await _open(stack, world, post(b"{}")) for _ in range(280)]
            assert {(await wire.answer())[0] for wire in idle} == {401}
            half = post(b"{", await _authorization(world), length=100)
            busy = [await _open(stack, world, half) for _ in range(30)]
            assert await idle[0].until_closed() == b""
            await idle[-1].send(post(b"{}"))
            assert (await idle[-1].answer())[0] == 401
            assert {(await wire.answer())[0] for wire in busy} == {408}


async def test_where_all_work_the_newcomer_goes(tmp_path: Path) -> None:
    text = HASTY.replace("body_timeout: 400ms, max_connections: 300", "body_timeout: 1500ms, max_connections: 20")
    async with open_world(tmp_path, text) as world, AsyncExitStack() as stack:
        half = post(b"{", await _authorization(world), length=100)
        busy = [await _open(stack, world, half) for _ in range(20)]
        await asyncio.sleep(0.3)
        newcomers = [await _open(stack, world) for _ in range(5)]
        assert [await _status(wire) for wire in newcomers] == [0] * 5
        assert [await _status(wire) for wire in busy] == [408] * 20
        await _health(world)


async def test_resets_in_storms_leave_nothing_behind(tmp_path: Path) -> None:
    patient = HASTY.replace("header_timeout: 400ms, body_timeout: 400ms, max_connections: 300", "header_timeout: 10s")
    async with open_world(tmp_path, patient) as world:
        port = int(world.base.rsplit(":", 1)[1])

        def storm(data: bytes) -> None:
            for _ in range(500):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(data)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        heads = (b"", b"GET /", post(b"{}"), post(b"{", await _authorization(world), length=9))
        before = _open_files()
        await asyncio.gather(*(asyncio.to_thread(storm, head) for head in heads), *(_answers(world) for _ in range(20)))
        async with asyncio.timeout(10):
            while _open_files() > before + 150:  # noqa: ASYNC110 - the system has no event for it
                await asyncio.sleep(0.01)
        await _answers(world)


async def test_five_thousand_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    text = HASTY.replace("400ms, body_timeout: 400ms, max_connections: 300", "60s, max_connections: 1000")
    async with open_world(tmp_path, text) as world, AsyncExitStack() as stack:
        address = ("127.0.0.1", int(world.base.rsplit(":", 1)[1]))
        for number in range(5000):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, address)
            if number % 1000 == 999:
                await _health(world)
        began = time.monotonic()
        await _health(world)
        assert time.monotonic() - began < 2
