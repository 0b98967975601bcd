"""The whole way with a real PostgreSQL at its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgresql import PostgresqlServer
from tests.world import MODERN, World, envelope, open_world, routing

_CONFIGURATION = """
server: {host: 127.0.0.1, port: 0}
admin: {port: 0}
limits: {requests_per_minute: 100000, burst: 10000, concurrency_per_client: 100}
auth:
  issuers:
    - issuer: ${env:ISSUER}
      audiences: ["https://gateway.test/mcp"]
sources:
  pg:
    engine: postgresql
    host: ${env:PGHOST}
    port: ${env:PGPORT}
    database: postgres
    user: postgres
    password: ${env:PGPASSWORD}
    required: true
    tls: {mode: disable}
    statement_timeout: 20s
    pool: {min: 1, max: 3, max_per_client: 3, acquire_timeout: 2s}
tools:
  sleep:
    description: Sleeps.
    source: pg
    scopes: ["customers:read"]
    parameters: {seconds: {type: number}}
    statement: select pg_sleep(:seconds)::text as slept
  exact:
    description: Values that floats cannot hold.
    source: pg
    scopes: ["customers:read"]
    statement: |
      select 9007199254740993::bigint as big, 12345678901234567890.123456789000::numeric as amount,
             'infinity'::timestamptz as forever, 0.1::float4 as tenth, 'NaN'::numeric as nothing,
             '{"n": 1.10000000000000000001}'::jsonb as doc, null::int as missing
  as_text:
    description: The same as strings.
    source: pg
    scopes: ["customers:read"]
    numbers: string
    statement: select 9007199254740993::bigint as big, 7 as small, 1.10::numeric as amount
  everything:
    description: All columns of a table that changes.
    source: pg
    scopes: ["customers:read"]
    statement: select * from changing
  who:
    description: Its own process.
    source: pg
    scopes: ["customers:read"]
    statement: select pg_backend_pid() as pid
"""


@pytest.fixture
async def world(own_postgresql: PostgresqlServer, tmp_path: Path) -> AsyncIterator[World]:
    server = own_postgresql
    admin = await server.admin()
    await admin.execute("create table changing (id integer); insert into changing values (1)")
    await admin.close()
    environment = {"PGHOST": server.host, "PGPORT": str(server.port), "PGPASSWORD": server.password}
    async with open_world(tmp_path, _CONFIGURATION, environment) as world:
        yield world


async def _sleepers(server: PostgresqlServer) -> list[int]:
    admin = await server.admin()
    rows = await admin.fetch(
        "select pid from pg_stat_activity"
        " where pid <> pg_backend_pid() and state = 'active' and query like '%pg_sleep($1)%'"
    )
    await admin.close()
    return [row["pid"] for row in rows]


async def _until_sleepers(server: PostgresqlServer, count: int, limit: float) -> list[int]:
    async with asyncio.timeout(limit):
        while len(pids := await _sleepers(server)) != count:
            pass
        return pids


async def test_values_cross_the_whole_house_exactly(world: World) -> None:
    reply = await world.call("exact")
    text = reply.result["content"][0]["text"]
    for exact in (
        '"big":9007199254740993',
        '"amount":12345678901234567890.123456789000',
        '"forever":"infinity"',
        '"tenth":0.1',
        '"nothing":"NaN"',
        '"doc":{"n":1.10000000000000000001}',
        '"missing":null',
    ):
        assert exact in text
        assert exact.encode() in reply.body.split(b'"structuredContent":')[1]
    strings = (await world.call("as_text")).result["structuredContent"]["rows"]
    assert strings == [{"big": "9007199254740993", "small": 7, "amount": "1.10"}]


@pytest.mark.parametrize("version", [MODERN, "2025-11-25"])
async def test_a_client_that_leaves_stops_its_query(
    world: World, own_postgresql: PostgresqlServer, version: str
) -> None:
    body = envelope("tools/call", {"name": "sleep", "arguments": {"seconds": 60}})
    headers = routing(body) if version == MODERN else {"MCP-Protocol-Version": version}
    headers["Authorization"] = f"Bearer {await world.credentials().token()}"
    request = asyncio.create_task(world.http.post(world.gateway.url, json=body, headers=headers))
    await _until_sleepers(own_postgresql, 1, 5)
    request.cancel()
    await _until_sleepers(own_postgresql, 0, 1)
    assert (await world.call("who")).result["isError"] is False


async def test_a_killed_back_end_costs_a_read_no_more_than_time(world: World, own_postgresql: PostgresqlServer) -> None:
    running = asyncio.create_task(world.call("sleep", {"seconds": 2}))
    (pid,) = await _until_sleepers(own_postgresql, 1, 5)
    admin = await own_postgresql.admin()
    await admin.execute("select pg_terminate_backend($1)", pid)
    await admin.close()
    # The read is tried again on another connection.
    assert (await asyncio.wait_for(running, 15)).result["isError"] is False
    assert (await world.call("who")).result["isError"] is False


async def test_a_restart_heals_without_a_restart_of_ours(world: World, own_postgresql: PostgresqlServer) -> None:
    before = (await world.call("who")).result["structuredContent"]
    own_postgresql.stop()
    down = (await world.call("who")).result
    assert down["isError"] is True
    assert down["_meta"]["mcp-database-gateway/error"]["retryable"] is True
    assert own_postgresql.host not in json.dumps(down)
    async with world.http.get(f"{world.base}/healthz/ready") as response:
        assert response.status == 503
    own_postgresql.start()
    async with asyncio.timeout(15):
        while (result := (await world.call("who")).result)["isError"]:  # noqa: ASYNC110 - a client can only ask again
            await asyncio.sleep(0.05)
    assert result["structuredContent"] != before


async def test_the_pool_is_a_limit_and_a_full_one_says_when_to_come_back(world: World) -> None:
    calls = [world.call("sleep", {"seconds": 3}) for _ in range(5)]
    results = [reply.result for reply in await asyncio.gather(*calls)]
    failures: list[Any] = [each["_meta"]["mcp-database-gateway/error"] for each in results if each["isError"]]
    assert len(failures) == 2
    assert {failure["code"] for failure in failures} == {"pool_timeout"}
    assert all(failure["retry_after_ms"] > 0 for failure in failures)


async def test_a_changed_table_changes_the_output_schema(world: World, own_postgresql: PostgresqlServer) -> None:
    async def columns() -> set[str]:
        tools = {tool["name"]: tool for tool in (await world.modern("tools/list")).result["tools"]}
        rows = tools["everything"]["outputSchema"]["properties"]["rows"]
        return set(rows["items"]["properties"])

    async with asyncio.timeout(10):
        while "everything" not in world.gateway.snapshot.sources["pg"].shapes:  # noqa: ASYNC110 - learned in the background
            await asyncio.sleep(0.01)
    assert await columns() == {"id"}
    admin = await own_postgresql.admin()
    # Preparing the statement must not have left a lock on the table.
    await admin.execute("alter table changing add column label text default 'new'", timeout=5)
    await admin.close()
    rows = (await world.call("everything")).result["structuredContent"]["rows"]
    assert rows == [{"id": 1, "label": "new"}]
    assert await columns() == {"id", "label"}
