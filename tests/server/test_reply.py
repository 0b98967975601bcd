"""The answer in one piece is the one that aiohttp would have written."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import pytest

from tests.server.raw import connect
from tests.world import World

in_world = pytest.mark.asyncio(loop_scope="module")


async def _request(world: World, version: str, *headers: str) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "orders_total"}})
    lines = (
        f"POST /mcp HTTP/{version}",
        f"Host: {world.base.removeprefix('http://')}",
        f"Authorization: Bearer {await world.credentials().token()}",
        "Content-Type: application/json",
        "X-Request-ID: the-same",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join([*lines, "", ""]).encode() + body.encode()


@in_world
async def test_its_headers_and_body_are_those_of_any_answer(world: World) -> None:
    found = []
    # HTTP/1.0 is answered by aiohttp's own response.
    for request in (await _request(world, "1.1"), await _request(world, "1.0", "Connection: keep-alive")):
        async with connect(world.base) as wire:
            await wire.send(request)
            status, headers, body = await wire.answer()
            assert status == 200
            assert abs(parsedate_to_datetime(headers.pop("date")).timestamp()) > 0
            assert headers.pop("connection", "keep-alive") == "keep-alive"
            found.append((headers, body))
    ours, theirs = found
    assert ours == theirs
    assert ours[0]["x-request-id"] == "the-same"


@in_world
async def test_a_connection_goes_on_after_it_and_ends_where_the_client_says_so(world: World) -> None:
    async with connect(world.base) as wire:
        for _ in range(3):
            await wire.send(await _request(world, "1.1"))
            assert (await wire.answer())[0] == 200
        await wire.send(await _request(world, "1.1", "Connection: close"))
        status, headers, _ = await wire.answer()
        assert status == 200
        assert headers["connection"] == "close"
        assert await wire.until_closed() == b""


@in_world
async def test_pipelined_requests_are_answered_in_turn(world: World) -> None:
    async with connect(world.base) as wire:
        await wire.send(await _request(world, "1.1") * 5)
        answers = [await wire.answer() for _ in range(5)]
    assert [status for status, _, _ in answers] == [200] * 5
    assert len({body for _, _, body in answers}) == 1
