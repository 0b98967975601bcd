"""HTTP+SSE of 2024-11-05 over real HTTP: the stream, the messages, and that they are one session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.logged import Accounts, logged
from tests.server.raw import connect
from tests.server.streams import HELLO, Stream, settled, until
from tests.world import CONFIGURATION as PLAIN
from tests.world import Reply, World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIGURATION = PLAIN + "features: {http_sse: true}\ntoolsets: {one: {tools: [customer_by_id]}}\n"
LONG = 10**9


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("http_sse")
    async with open_world(folder, CONFIGURATION) as world:
        await settled(world)
        yield world


class SseClient:
    """An open stream, and the address that it told."""

    def __init__(self, world: World, stream: Stream, address: str) -> None:
        self.world = world
        self.stream = stream
        self.address = address

    async def post(self, body: Any, *, client: str | None = "reader", **how: Any) -> Reply:
        return await self.world.send(body, client=client, url=self.world.base + self.address, **how)

    async def request(self, method: str, params: dict[str, Any] | None = None, *, identifier: Any = 1) -> Reply:
        body = {"jsonrpc": "2.0", "id": identifier, "method": method}
        return await self.post(body if params is None else body | {"params": params})

    async def call(
        self, tool: str, *, identifier: Any = 1, meta: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        params = {"name": tool, "arguments": arguments} | ({"_meta": meta} if meta else {})
        assert (await self.request("tools/call", params, identifier=identifier)).status == 202

    async def message(self) -> dict[str, Any]:
        return (await self.stream.event()).message


@asynccontextmanager
async def connected(world: World, *, subject: str = "reader", path: str = "/sse") -> AsyncIterator[SseClient]:
    headers = {"Authorization": f"Bearer {await world.credentials(subject).token()}", "Accept": "text/event-stream"}
    async with world.http.get(world.base + path, headers=headers) as response:
        assert response.status == 200
        stream = Stream(response)
        endpoint = await stream.event()
        assert endpoint.event == "endpoint"
        yield SseClient(world, stream, endpoint.data)
        response.close()


async def test_a_session_from_the_first_event_to_the_last(world: World) -> None:
    async with connected(world) as client:
        assert (await client.request("initialize", HELLO | {"protocolVersion": "2024-11-05"})).status == 202
        hello = await client.message()
        assert hello["result"]["protocolVersion"] == "2024-11-05"
        assert (await client.post({"jsonrpc": "2.0", "method": "notifications/initialized"})).status == 202
        await client.call("customer_by_id", identifier="a", meta={"progressToken": 7}, id=1)
        messages = [await client.message()]
        while "id" not in messages[-1]:
            messages.append(await client.message())
        assert messages[-1]["id"] == "a"
        assert messages[-1]["result"]["structuredContent"]["row_count"] == 1
        assert {note["params"]["progressToken"] for note in messages[:-1]} == {7}
        await client.call("no_such_tool", identifier=2)
        assert (await client.message())["error"]["code"] == -32602
        await client.call("orders_total", identifier=3)
        assert (await client.message())["id"] == 3
        await world.gateway.sessions.announce(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        assert (await client.message())["method"] == "notifications/tools/list_changed"
    await until(lambda: len(world.gateway.sessions) == 0, 2.0)


async def test_messages_need_the_session_and_its_owner(world: World) -> None:
    async with connected(world) as client:
        path, _, _ = client.address.partition("?")
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        answers = set()
        for subject, address in (
            ("clerk", client.address),
            ("clerk", f"{path}?sessionId=unknown"),
            ("reader", f"{path}?sessionId=unknown"),
            ("reader", path),
            ("reader", client.address + "&sessionId=twice"),
            ("reader", client.address.replace("/messages", "/messages/one")),
        ):
            reply = await world.send(body, client=subject, url=world.base + address, headers={"X-Request-ID": "same"})
            kept = {name: value for name, value in reply.headers.items() if name != "Date"}
            answers.add((reply.status, reply.body, tuple(sorted(kept.items()))))
        assert len(answers) == 1
        assert answers.pop()[0] == 404
        assert (await client.post(body, client=None)).status == 401
        assert (await client.post(body, headers={"Host": "evil.example"})).status == 421
        assert (await client.post(body, raw=b"{")).status == 400
        assert (await client.post(body)).status == 202
        assert (await client.message())["result"] == {}


async def test_the_stream_goes_through_the_door(world: World) -> None:
    url = world.base + "/sse"
    anonymous = await world.send(None, client=None, method="GET", url=url)
    assert anonymous.status == 401
    metadata_url = anonymous.headers["WWW-Authenticate"].partition('resource_metadata="')[2].partition('"')[0]
    metadata = await world.send(None, client=None, method="GET", url=metadata_url)
    assert b'"resource": "' + url.encode() + b'"' in metadata.body
    assert (await world.send(None, method="GET", url=url, headers={"Host": "evil.example"})).status == 421
    posted = await world.send({}, url=url)
    assert (posted.status, posted.headers["Allow"]) == (405, "GET")
    got = await world.send(None, method="GET", url=world.base + "/messages")
    assert (got.status, got.headers["Allow"]) == (405, "POST")


async def test_a_toolset_has_streams_of_its_own(world: World) -> None:
    async with connected(world, path="/sse/one") as client:
        await client.request("tools/list")
        assert [tool["name"] for tool in (await client.message())["result"]["tools"]] == ["customer_by_id"]
    assert (await world.send(None, method="GET", url=world.base + "/sse/unknown")).status == 404


async def test_cancelling_stops_the_database_and_is_not_answered(world: World) -> None:
    async with connected(world) as client:
        await client.call("count_slowly", identifier=5, n=LONG)
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 1, 5.0)
        await client.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}})
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)
        await client.request("ping", identifier=6)
        assert (await client.message())["id"] == 6


async def test_the_end_of_the_stream_ends_what_runs(world: World) -> None:
    async with connected(world) as client:
        await client.call("count_slowly", n=LONG)
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 1, 5.0)
    await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 0, 1.0)
    assert (await client.request("ping")).status == 404


async def test_where_it_is_off_there_is_no_such_path(tmp_path: Path) -> None:
    async with open_world(tmp_path) as plain:
        for path in ("/sse", "/messages"):
            assert (await plain.send(None, method="GET", url=plain.base + path)).status == 404


async def test_a_write_is_seen_through_when_it_is_cancelled(world: World) -> None:
    async with connected(world, subject="clerk") as client:
        body = {"name": "rename_slowly", "arguments": {"id": 3, "name": "Seen through", "n": 1_000_000}}
        message = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": body}
        assert (await client.post(message, client="clerk")).status == 202
        await until(lambda: world.gateway.snapshot.sources["shop_rw"].stats.active == 1, 5.0)
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
        assert (await client.post(cancelled, client="clerk")).status == 202
        await until(lambda: world.gateway.snapshot.sources["shop_rw"].stats.active == 0, 15.0)
    found = await world.call("customer_by_id", {"id": 3})
    assert found.result["structuredContent"]["rows"][0]["name"] == "Seen through"


async def test_a_stopping_gateway_answers_what_runs_and_ends_the_stream(tmp_path: Path) -> None:
    async with open_world(tmp_path, CONFIGURATION) as world:
        headers = {"Authorization": f"Bearer {await world.credentials().token()}"}
        response = await world.http.get(world.base + "/sse", headers=headers)
        stream = Stream(response)
        client = SseClient(world, stream, (await stream.event()).data)
        await client.call("count_slowly", n=3_000_000)
        await until(lambda: world.gateway.snapshot.sources["shop"].stats.active == 1, 5.0)
        ended = asyncio.create_task(stream.rest())
        await asyncio.sleep(0)
        world.gateway.sessions.stop(asyncio.get_running_loop().time() + 20)
        events = await ended
    assert events[-1].message["result"]["structuredContent"]["rows"] == [{"counted": 3_000_000}]


async def test_a_client_that_asks_for_a_stream_and_hangs_up_is_no_fault(world: World) -> None:
    request = (
        f"GET /sse HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {await world.credentials().token()}\r\n\r\n"
    )
    with logged() as log:
        accounts = Accounts(log)
        for _ in range(20):
            accounts.requests += 1
            async with connect(world.base) as wire:
                await wire.send(request.encode())
                wire.writer.write_eof()
                await wire.until_closed()
        accounts.check()
