"""Cancelling in every framing, as the database sees it: the statement ends, but for a write of an older client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.cli.test_stdio import POLICY, USER, cancel, child, legacy
from tests.cli.test_stdio import call as asked
from tests.server.streams import Client
from tests.server.test_http_sse import connected
from tests.servers.postgresql import PostgresqlServer
from tests.tally import Tally
from tests.world import World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOURCES: Final = """
sources:
  pg: &pg {engine: postgresql, host: "${env:PGHOST}", port: "${env:PGPORT}", database: postgres, user: postgres,
           password: "${env:PGPASSWORD}", required: true, tls: {mode: disable}, statement_timeout: 50s}
  pg_rw: {<<: *pg, access: read-write}
tools:
  sleep:
    description: Sleeps.
    source: pg
    scopes: ["customers:read"]
    statement: select pg_sleep(40)::text as slept
  write:
    description: Writes, and takes its time.
    source: pg_rw
    scopes: ["orders:write"]
    writes: true
    parameters: {way: {type: string}}
    statement: insert into written select :way from (select pg_sleep(1)) slept
"""
CONFIGURATION: Final = (
    """
server: {host: 127.0.0.1, port: 0}
admin: {port: 0}
limits: {requests_per_minute: 100000, burst: 10000, concurrency_per_client: 100}
auth: {issuers: [{issuer: "${env:ISSUER}", audiences: ["https://gateway.test/mcp"]}]}
features: {sessions: SESSIONS, http_sse: true}
"""
    + SOURCES
)
SLEEP: Final[dict[str, Any]] = {"name": "sleep", "arguments": {}}
_RUNNING: Final = (
    "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep%' "
    "and application_name like 'mcp-database-gateway/%'"
)


@dataclass
class Place:
    """Two gateways in front of one database: with sessions, and without."""

    world: World
    stateless: World
    admin: Any
    folder: Path
    environment: Mapping[str, str]

    async def until_running(self, count: int, limit: float = 20.0) -> float:
        """Wait until so many statements sleep in the database; the seconds that it took."""
        began = time.monotonic()
        async with asyncio.timeout(limit):
            while await self.admin.fetchval(_RUNNING) != count:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.01)
        return time.monotonic() - began


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(postgresql: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder: Path = tmp_path_factory.mktemp("cancellation")
    environment = {"PGHOST": postgresql.host, "PGPORT": str(postgresql.port), "PGPASSWORD": postgresql.password}
    admin = await postgresql.admin()
    await admin.execute("drop table if exists written; create table written (way text)")
    try:
        async with AsyncExitStack() as stack:
            worlds = []
            for sessions in ("true", "false"):
                (folder / sessions).mkdir()
                text = CONFIGURATION.replace("SESSIONS", sessions)
                worlds.append(await stack.enter_async_context(open_world(folder / sessions, text, environment)))
            yield Place(worlds[0], worlds[1], admin, folder, environment)
    finally:
        await admin.execute("drop table written")
        await admin.close()


@asynccontextmanager
async def _leaving(
    world: World, body: Mapping[str, Any], headers: Mapping[str, str], subject: str = "reader"
) -> AsyncIterator[None]:
    """A call whose client closes its connection."""
    token = await world.credentials(subject).token()
    running = asyncio.create_task(
        world.http.post(world.gateway.url, json=body, headers={"Authorization": f"Bearer {token}", **headers})
    )
    yield
    if running.done():
        (await running).close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _modern_json(place: Place) -> AbstractAsyncContextManager[None]:
    body = envelope("tools/call", SLEEP)
    return _leaving(place.world, body, {**routing(body), "Accept": "application/json"})


def _modern_stream(place: Place) -> AbstractAsyncContextManager[None]:
    body = envelope("tools/call", SLEEP, meta={"progressToken": 1})
    return _leaving(place.world, body, {**routing(body), "Accept": "text/event-stream"})


def _older_json(place: Place) -> AbstractAsyncContextManager[None]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": SLEEP}
    return _leaving(place.stateless, body, {"MCP-Protocol-Version": "2025-11-25", "Accept": "application/json"})


@asynccontextmanager
async def _session_stream(place: Place) -> AsyncIterator[None]:
    async with Client(place.world) as client:
        await client.initialize()
        async with client.stream("sleep") as stream:
            yield
            assert (await client.cancel(stream.request_id)).status == 202
            assert (await stream.rest())[-1].message["error"]["code"] == -32800


@asynccontextmanager
async def _session_end(place: Place) -> AsyncIterator[None]:
    async with Client(place.world) as client:
        await client.initialize()
        async with client.stream("sleep"):
            yield
            assert (await client.send(None, method="DELETE")).status == 204


@asynccontextmanager
async def _http_sse(place: Place) -> AsyncIterator[None]:
    async with connected(place.world) as client:
        await client.call("sleep", identifier=5)
        yield
        await client.post(cancel(5))


@asynccontextmanager
async def _http_sse_end(place: Place) -> AsyncIterator[None]:
    async with connected(place.world) as client:
        await client.call("sleep", identifier=5)
        yield


@asynccontextmanager
async def _stdio(place: Place) -> AsyncIterator[None]:
    text = POLICY.replace("USER", USER) + SOURCES
    async with child(place.folder, text, environment=place.environment) as gateway:
        await gateway.send(asked(1, "sleep", {}))
        yield
        await gateway.send(cancel(1))
        assert await place.until_running(0) < 10
        assert (await gateway.ask(legacy(2, "ping")))["result"] == {}


@pytest.mark.parametrize(
    "way",
    [
        _modern_json,
        _modern_stream,
        _older_json,
        _session_stream,
        _session_end,
        _http_sse,
        _http_sse_end,
        _stdio,
    ],
)
async def test_a_read_ends_in_the_database(
    place: Place, tally: Tally, way: Callable[[Place], AbstractAsyncContextManager[None]]
) -> None:
    async with way(place):
        await place.until_running(1)
        began = time.monotonic()
    await place.until_running(0, 10.0)
    tally(f"the database was done {time.monotonic() - began:.2f} s after {way.__name__.strip('_')} was given up")


async def _written(place: Place, way: str) -> int:
    return int(await place.admin.fetchval("select count(*) from written where way = $1", way))


def _writing(way: str) -> dict[str, Any]:
    return {"name": "write", "arguments": {"way": way}}


async def test_a_write_of_an_older_client_is_seen_through(place: Place) -> None:
    """Cancelled in a session, on HTTP+SSE, and by leaving."""
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": _writing("left")}
    world = place.world
    client = Client(world, subject="clerk")
    await client.initialize()
    async with (
        client.stream("write", way="session") as stream,
        connected(world, subject="clerk") as sse,
        _leaving(place.stateless, body, {"MCP-Protocol-Version": "2025-11-25"}, "clerk"),
    ):
        message = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": _writing("sse")}
        assert (await sse.post(message, client="clerk")).status == 202
        await place.until_running(3)
        await client.cancel(stream.request_id)
        assert (await sse.post(cancel(9), client="clerk")).status == 202
        assert (await stream.rest())[-1].message["error"]["code"] == -32800
    await place.until_running(0)
    for way in ("session", "sse", "left"):
        assert await _written(place, way) == 1


async def test_a_write_of_a_modern_client_is_rolled_back(place: Place) -> None:
    body = envelope("tools/call", {"name": "write", "arguments": {"way": "modern"}})
    async with _leaving(place.world, body, routing(body), "clerk"):
        await place.until_running(1)
    await place.until_running(0)
    assert await _written(place, "modern") == 0
