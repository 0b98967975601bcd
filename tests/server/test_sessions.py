"""Stateful sessions over real HTTP: their rules, their owners, their streams, and what cancels what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.server.streams import HELLO, Client, settled, until
from tests.world import CONFIGURATION as PLAIN
from tests.world import MODERN, World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIGURATION = PLAIN + "features: {sessions: true}\n"
LONG = 10**9
COUNT: dict[str, Any] = {"name": "count_slowly", "arguments": {"n": LONG}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("sessions")
    async with open_world(folder, CONFIGURATION) as world:
        await settled(world)
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def client(world: World) -> AsyncIterator[Client]:
    """A session that is open."""
    async with Client(world) as client:
        await client.initialize()
        yield client


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_session_begins_serves_and_ends(world: World, version: str) -> None:
    async with Client(world, version=version) as client:
        reply = await client.initialize()
        assert reply.result["protocolVersion"] == version
        assert reply.result["capabilities"]["tools"] == {"listChanged": True}
        assert len(str(client.session)) >= 43
        assert (await client.notify("notifications/initialized")).status == 202
        tools = await client.request("tools/list")
        assert "customer_by_id" in {tool["name"] for tool in tools.result["tools"]}
        found = await client.call("customer_by_id", id=1)
        assert found.result["structuredContent"]["row_count"] == 1
        assert "Mcp-Session-Id" not in found.headers
        assert (await client.send(None, method="DELETE")).status == 204
        assert (await client.request("tools/list")).status == 404
        assert (await client.send(None, method="DELETE")).status == 404
    assert len(world.gateway.sessions) == 0


async def test_two_sessions_have_ids_of_their_own(world: World) -> None:
    async with Client(world) as one, Client(world) as two:
        await one.initialize()
        await two.initialize()
        assert one.session != two.session


async def test_without_its_id_nothing_but_initialize_is_served(world: World) -> None:
    async with Client(world) as client:
        for reply in (
            await client.request("tools/list"),
            await client.notify("notifications/initialized"),
            await client.send(None, method="GET"),
            await client.send(None, method="DELETE"),
        ):
            assert reply.status == 400
            assert "Mcp-Session-Id is missing" in reply.error["message"]


async def test_another_subject_is_told_what_strangers_are_told(world: World, client: Client) -> None:
    """Byte for byte: another's session, one that never was, and one at another door look the same."""
    for method in ("POST", "GET", "DELETE"):
        answers = set()
        assert client.session is not None
        for subject, session in (("clerk", client.session), ("clerk", "x" * 43), ("reader", "x" * 43), ("reader", "")):
            async with Client(world, subject=subject) as other:
                other.session = session
                reply = await other.send(
                    {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, method=method, headers={"X-Request-ID": "same"}
                )
                kept = {name: value for name, value in reply.headers.items() if name != "Date"}
                answers.add((reply.status, reply.body, tuple(sorted(kept.items()))))
        assert len(answers) == 1
        assert answers.pop()[0] == 404
    assert (await client.request("tools/list")).status == 200


async def test_every_method_goes_through_the_door(world: World, client: Client) -> None:
    for method in ("POST", "GET", "DELETE"):
        anonymous = await world.send({}, client=None, method=method, headers={"Mcp-Session-Id": str(client.session)})
        assert anonymous.status == 401
        assert "resource_metadata" in anonymous.headers["WWW-Authenticate"]
        rebound = await client.send({}, method=method, headers={"Host": "evil.example"})
        assert rebound.status == 421
        foreign = await client.send({}, method=method, headers={"Origin": "https://evil.example"})
        assert foreign.status == 403
    put = await client.send({}, method="PUT")
    assert (put.status, put.headers["Allow"]) == (405, "DELETE, GET, POST")


async def test_revisions_are_held_to(world: World, client: Client) -> None:
    assert (await client.request("ping", headers={"MCP-Protocol-Version": "1.0"})).status == 400
    # Another revision that is served is no mistake of the request; the session goes on with its own.
    async with client.stream("count_slowly", n=1) as stream:
        assert (await stream.event()).data == ""
    assert (await client.request("ping", headers={"MCP-Protocol-Version": "2025-03-26"})).status == 200
    client.version = None
    assert (await client.request("ping")).status == 200
    again = await client.request("initialize", HELLO)
    assert again.status == 400


async def test_modern_requests_are_stateless_beside_sessions(world: World) -> None:
    reply = await world.modern("tools/list")
    assert reply.status == 200
    assert "Mcp-Session-Id" not in reply.headers
    got = await world.send(None, method="GET", headers={"MCP-Protocol-Version": MODERN})
    assert got.status == 405


async def test_where_sessions_are_off_nothing_changed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as plain:
        reply = await plain.legacy("initialize", HELLO, version=None)
        assert "Mcp-Session-Id" not in reply.headers
        assert (
            "listChanged" not in reply.result["capabilities"]["tools"]
            or not reply.result["capabilities"]["tools"]["listChanged"]
        )
        for method in ("GET", "DELETE"):
            refused = await plain.send(None, method=method, headers={"Mcp-Session-Id": "x"})
            assert (refused.status, refused.headers["Allow"]) == (405, "POST")


async def test_an_answer_is_resumed_where_it_broke(world: World, client: Client) -> None:
    """The result comes on the GET, once, after the event that was seen last."""
    async with client.stream("count_slowly", n=2_000_000) as stream:
        prime = await stream.event()
        assert prime.data == ""
        first = await stream.event()
        assert first.message["method"] == "notifications/progress"
    async with client.resume(first.id) as stream:
        rest = await stream.rest()
    seen = [event.message for event in rest if event.data]
    assert seen[-1]["result"]["structuredContent"]["rows"] == [{"counted": 2_000_000}]
    steps = [first.message["params"]["progress"], *(one["params"]["progress"] for one in seen[:-1])]
    assert steps == list(range(1, len(steps) + 1))
    async with client.resume(rest[-1].id) as stream:
        assert await stream.rest() == []
    async with client.resume(prime.id) as stream:
        assert [event.data for event in await stream.rest() if event.data] == [
            first.data,
            *(e.data for e in rest if e.data),
        ]


async def test_events_have_no_empty_data_for_earlier_revisions(world: World) -> None:
    async with Client(world, version="2025-06-18") as client:
        await client.initialize()
        async with client.stream("count_slowly", n=10_000) as stream:
            events = await stream.rest()
        assert all(event.data and event.id for event in events)


async def test_what_is_not_kept_is_400(world: World, client: Client) -> None:
    async with Client(world) as other:
        await other.initialize()
        async with other.stream("count_slowly", n=1000) as stream:
            foreign = (await stream.rest())[-1].id
    for unknown in (foreign, "", "x", "0" * 8 + "-0-0", "9" * 400, foreign + "0"):
        reply = await client.send(None, method="GET", headers={"Last-Event-ID": unknown})
        assert reply.status == 400, unknown


async def test_cancelling_stops_the_database(world: World, client: Client) -> None:
    async with client.stream("count_slowly", n=LONG) as stream:
        while "running" not in (await stream.event()).data:
            pass
        assert (await client.cancel(stream.request_id)).status == 202
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)
        last = (await stream.rest())[-1]
    assert last.message["error"]["code"] == -32800
    # Unknown ids are nothing to speak of.
    unknown: tuple[Any, ...] = ("none", 10**30, True, None, [], {})
    for identifier in unknown:
        assert (await client.cancel(identifier)).status == 202


async def test_cancelling_a_call_that_is_answered_as_json(world: World, client: Client) -> None:
    headers = {"Accept": "application/json"}
    running = asyncio.create_task(
        client.request(
            "tools/call", {"name": "count_slowly", "arguments": {"n": LONG}}, headers=headers, identifier="j"
        )
    )
    await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 1, 5.0)
    await client.cancel("j")
    reply = await running
    assert (reply.status, reply.error["code"]) == (200, -32800)
    await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)


async def test_a_client_that_cannot_come_back_stops_its_read(world: World, client: Client) -> None:
    headers = {"Accept": "application/json"}
    running = asyncio.create_task(
        client.request("tools/call", {"name": "count_slowly", "arguments": {"n": LONG}}, headers=headers)
    )
    await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 1, 5.0)
    running.cancel()
    await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)


async def test_the_end_of_a_session_ends_what_runs_in_it(world: World, client: Client) -> None:
    async with client.stream("count_slowly", n=LONG) as stream, client.listen() as standalone:
        while "running" not in (await stream.event()).data:
            pass
        assert (await client.send(None, method="DELETE")).status == 204
        assert (await stream.rest())[-1].message["error"]["code"] == -32800
        await standalone.rest()
    await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)


async def test_one_id_is_one_request(world: World, client: Client) -> None:
    async with client.stream("count_slowly", n=LONG) as stream:
        await stream.event()
        twice = await client.request("ping", identifier=stream.request_id)
        assert twice.status == 400
        # The text and the number are different ids (JSON-RPC 2.0 section 4).
        assert (await client.request("ping", identifier=str(stream.request_id))).status == 200
        await client.cancel(stream.request_id)
        await stream.rest()
    assert (await client.request("ping", identifier=stream.request_id)).status == 200


async def test_the_standalone_stream_tells_of_changes_once(world: World, client: Client) -> None:
    note = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    async with client.listen() as stream:
        await stream.event()
        assert (await client.send(None, method="GET")).status == 409
        await world.gateway.sessions.announce(note)
        first = await stream.event()
        assert first.message["method"] == "notifications/tools/list_changed"
    await until(lambda: not client.here.is_connected, 2.0)
    for _ in range(3):
        await world.gateway.sessions.announce(note)
    async with client.resume(first.id) as stream:
        assert not (await stream.event()).data
        second = await stream.event()
        assert second.message == first.message
        # Whoever takes the stream over ends the connection that had it.
        async with client.resume(second.id) as newer:
            await newer.event()
            await world.gateway.sessions.announce(note)
            third = await newer.event()
            assert await stream.rest(broken=True) == []
    assert [event.id.rpartition("-")[2] for event in (first, second, third)] == ["1", "2", "3"]


async def test_accept_is_honoured(world: World, client: Client) -> None:
    assert (await client.send(None, method="GET", headers={"Accept": "application/json"})).status == 406
    assert (await client.request("ping", headers={"Accept": "text/html"})).status == 406
