"""SSE answers: progress, keep-alive, and the database stopping when the client leaves."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from gateway.server import answer
from tests.world import MODERN, World, envelope, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = 10**9


async def test_a_call_with_a_token_gets_progress_at_its_stages(world: World) -> None:
    reply = await world.modern(
        "tools/call", {"name": "customer_by_id", "arguments": {"id": 7}}, meta={"progressToken": "p"}
    )
    assert reply.is_stream
    assert reply.headers["Cache-Control"] == "no-cache, no-transform"
    assert reply.headers["X-Accel-Buffering"] == "no"
    *notes, last = reply.events
    assert [note["method"] for note in notes] == ["notifications/progress"] * len(notes)
    assert len(notes) >= 3
    steps = [note["params"]["progress"] for note in notes]
    assert steps == sorted(steps)
    assert {note["params"]["progressToken"] for note in notes} == {"p"}
    words = " / ".join(note["params"]["message"] for note in notes)
    assert "connection" in words
    assert "running" in words
    assert "row" in words
    assert last["result"]["structuredContent"]["row_count"] == 1


async def test_progress_works_in_the_handshake_era_too(world: World) -> None:
    params = {"name": "customer_by_id", "arguments": {"id": 7}, "_meta": {"progressToken": 2**70}}
    reply = await world.legacy("tools/call", params)
    assert reply.is_stream
    assert reply.events[0]["params"]["progressToken"] == 2**70


async def test_a_client_that_takes_no_stream_gets_json(world: World) -> None:
    body = envelope("tools/call", {"name": "customer_by_id", "arguments": {"id": 7}}, meta={"progressToken": 1})
    reply = await world.send(body, headers={**routing(body), "Accept": "application/json"})
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.result["structuredContent"]["row_count"] == 1


async def test_a_refusal_keeps_its_status_before_the_stream_begins(world: World) -> None:
    params = {"name": "customer_by_id", "arguments": {"id": 7}}
    reply = await world.modern("tools/call", params, meta={"progressToken": 1}, client="stranger")
    assert reply.status == 403


async def test_long_work_becomes_a_stream_that_is_kept_alive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "STREAM_AFTER", 0.05)
    monkeypatch.setattr(answer, "KEEP_ALIVE", 0.05)
    reply = await world.call("count_slowly", {"n": 3_000_000})
    assert reply.is_stream
    assert reply.body.count(b": keep-alive\n\n") >= 2
    assert reply.result["structuredContent"]["rows"] == [{"counted": 3_000_000}]


async def _leave_in_the_middle(
    world: World, tool: str, arguments: dict[str, object], version: str, client: str
) -> None:
    """Send a call, wait until it runs, then close the connection."""
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}}
    if version == MODERN:
        body = envelope("tools/call", params, meta={"progressToken": 1})
        headers = routing(body)
    else:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {"MCP-Protocol-Version": version}
    headers |= {"Authorization": f"Bearer {await world.credentials(client).token()}", "Accept": "text/event-stream"}
    async with world.http.post(world.gateway.url, json=body, headers=headers) as response:
        async for line in response.content:
            if b"running" in line:
                break
        response.close()


def _active(world: World, source: str) -> int:
    return world.gateway.snapshot.sources[source].stats.active


async def _until_idle(world: World, source: str, limit: float) -> None:
    async with asyncio.timeout(limit):
        while _active(world, source):  # noqa: ASYNC110 - the pool has no event for tests
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", [MODERN, "2025-11-25"])
async def test_a_read_is_stopped_in_the_database_when_its_client_leaves(world: World, version: str) -> None:
    await _leave_in_the_middle(world, "count_slowly", {"n": LONG}, version, "reader")
    await _until_idle(world, "shop", 1.0)
    assert (await world.call("customer_by_id", {"id": 1})).result["isError"] is False


async def _name_of(world: World, customer: int) -> str:
    with sqlite3.connect(world.database) as database:
        row = database.execute("select name from customers where id = ?", (customer,)).fetchone()
    database.close()
    return str(row[0])


async def test_a_write_of_a_handshake_client_finishes_without_it(world: World) -> None:
    arguments = {"id": 1, "name": "Finished", "n": 2_000_000}
    await _leave_in_the_middle(world, "rename_slowly", arguments, "2025-11-25", "clerk")
    await _until_idle(world, "shop_rw", 15.0)
    assert await _name_of(world, 1) == "Finished"


async def test_a_write_of_a_modern_client_is_rolled_back(world: World) -> None:
    before = await _name_of(world, 2)
    await _leave_in_the_middle(world, "rename_slowly", {"id": 2, "name": "Lost", "n": LONG}, MODERN, "clerk")
    await _until_idle(world, "shop_rw", 1.0)
    assert await _name_of(world, 2) == before
