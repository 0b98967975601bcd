"""Fifty reloads under load on a real PostgreSQL: no call fails, nothing leaks, what did not change is not touched."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.database.pools import Pools
from gateway.server.front import Front
from gateway.server.reload import Reloader
from gateway.tools.loading import load_with_tools
from tests.database.support import until
from tests.servers.postgresql import PostgresqlServer
from tests.tally import Tally
from tests.world import World, open_world

_TEMPLATE: Final = """
server: {{host: 127.0.0.1, port: 0}}
admin: {{port: 0}}
limits: {{requests_per_minute: 1000000, burst: 100000, concurrency_per_client: 50}}
auth:
  issuers:
    - issuer: ${{env:ISSUER}}
      audiences: ["https://gateway.test/mcp"]
sources:
  kept: {{engine: postgresql, {server}, pool: {{min: 2, max: 4}}}}
  changing: {{engine: postgresql, {server}, statement_timeout: {seconds}s, pool: {{min: 1, max: 3}}}}
tools:
  kept_number:
    description: A number.
    source: kept
    scopes: ["customers:read"]
    statement: select {number} as number
  changing_number:
    description: A number.
    source: changing
    scopes: ["customers:read"]
    parameters: {{seconds: {{type: number}}}}
    statement: select {number} as number from pg_sleep(:seconds)
  {name}:
    description: The connections' processes.
    source: kept
    scopes: ["customers:read"]
    statement: select pid from pg_stat_activity where application_name = 'mcp-database-gateway/kept' order by pid
"""
_SERVER: Final = (
    "host: '${env:PGHOST}', port: '${env:PGPORT}', database: postgres, user: postgres, password: '${file:secret}',"
    " tls: {mode: disable}"
)
_COUNT: Final = "select application_name, count(*) from pg_stat_activity where application_name like 'mcp-%' group by 1"


def _text(round_: int) -> str:
    name = f"processes_{round_ // 2}"
    return _TEMPLATE.format(server=_SERVER, seconds=20 + round_, number=round_, name=name)


@dataclass
class Place:
    """The world, and what reloads it."""

    world: World
    reloader: Reloader
    path: Path
    server: PostgresqlServer

    async def reload(self, text: str) -> bool:
        self.path.write_text(text)
        return await self.reloader.reload(self.world.gateway.live, "test")

    async def counted(self) -> dict[str, int]:
        admin = await self.server.admin()
        try:
            return {row[0]: row[1] for row in await admin.fetch(_COUNT)}
        finally:
            await admin.close()


@pytest.fixture
async def place(tmp_path: Path, postgresql: PostgresqlServer) -> AsyncIterator[Place]:
    (tmp_path / "secret").write_text(postgresql.password)
    variables = {"PGHOST": postgresql.host, "PGPORT": str(postgresql.port)}
    async with open_world(tmp_path, _text(0), variables) as world:
        path = tmp_path / "gateway.yaml"
        known = os.environ | variables | {"ISSUER": world.provider.issuer}
        reloader = Reloader(path, lambda followed: load_with_tools(path, environment=known, followed=followed))
        yield Place(world, reloader, path, postgresql)


@dataclass
class Load:
    """Callers without a pause, until they are told to stop."""

    world: World
    calls: int = 0
    is_over: bool = False

    async def keep_calling(self, tool: str, arguments: dict[str, Any]) -> None:
        last = 0
        while not self.is_over:
            reply = await self.world.call(tool, arguments)
            assert reply.status == 200, reply
            assert not reply.result["isError"], reply
            number = reply.result["structuredContent"]["rows"][0]["number"]
            assert number >= last  # nobody sees an old configuration after a new one
            last = number
            self.calls += 1


async def test_fifty_reloads_under_load(place: Place, tally: Tally) -> None:
    world, load = place.world, Load(place.world)
    kept = await _processes(place, 0)
    callers = [
        *(asyncio.create_task(load.keep_calling("kept_number", {})) for _ in range(4)),
        *(asyncio.create_task(load.keep_calling("changing_number", {"seconds": 0.02})) for _ in range(3)),
    ]
    await _rounds(place, range(1, 4))
    await until(lambda: world.gateway.live.retiring == 0, 20)
    before = _held()
    await _rounds(place, range(4, 51))
    await until(lambda: world.gateway.live.retiring == 0, 20)
    after = _held()
    load.is_over = True
    await asyncio.gather(*callers)
    assert place.reloader.reloads.succeeded == 34
    assert place.reloader.reloads.failed == 16
    # The same processes of the server serve what did not change; of what did, only the last pool is there.
    assert set(kept) <= set(await _processes(place, 50))
    counts = await place.counted()
    assert counts["mcp-database-gateway/kept"] <= 4
    assert counts["mcp-database-gateway/changing"] <= 3
    assert after["descriptors"] <= before["descriptors"] + 8
    assert after["tasks"] <= before["tasks"] + 8
    assert (after["snapshots"], after["pools"]) == (before["snapshots"], before["pools"]) == (1, 2)
    assert load.calls > 200
    tally(f"{load.calls} calls over 50 reloads, 16 of them refused; held before {before}, after {after}")


async def _rounds(place: Place, numbers: range) -> None:
    for number in numbers:
        text = _text(number)
        is_broken = number % 3 == 0
        broken = text.replace("scopes:", "scoops:") if number % 2 else text.replace("source: changing", "source: chang")
        assert await place.reload(broken if is_broken else text) is not is_broken
        await asyncio.sleep(0)


async def _processes(place: Place, number: int) -> list[int]:
    reply = await place.world.call(f"processes_{number // 2}")
    return [row["pid"] for row in reply.result["structuredContent"]["rows"]]


async def _until_gone(place: Place, processes: list[int]) -> None:
    async with asyncio.timeout(10):
        while set(processes) & set(await _processes(place, 0)):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.02)


def _held() -> dict[str, int]:
    gc.collect()
    objects = gc.get_objects()
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
        "snapshots": sum(isinstance(each, Front) and "kept" in each.snapshot.sources for each in objects),
        "pools": sum(isinstance(each, Pools) and each.name in {"kept", "changing"} for each in objects),
    }


async def test_a_rotated_secret_serves_new_connections_and_keeps_old_ones(place: Place) -> None:
    kept = await _processes(place, 0)
    admin = await place.server.admin()
    try:
        await admin.execute("create role rotating login superuser password 'first'")
        own = _text(0).replace("user: postgres, ", "user: rotating, ")
        (place.path.parent / "secret").write_text("first")
        assert await place.reload(own)
        await until(lambda: place.world.gateway.live.retiring == 0)
        await _until_gone(place, kept)
        first = await _processes(place, 0)
        assert first
        await admin.execute("alter role rotating password 'second'")
        (place.path.parent / "secret").write_text("second")
        assert await place.reload(own)
        assert await _processes(place, 0) == first
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotating'")
        source = place.world.gateway.snapshot.sources["kept"]
        await until(lambda: source.stats.idle == 0)
        await until(lambda: source.stats.idle >= 1)
        assert await _processes(place, 0)
    finally:
        (place.path.parent / "secret").write_text(place.server.password)
        await place.reload(_text(0))
        await until(lambda: place.world.gateway.live.retiring == 0)
        await admin.execute("drop role rotating")
        await admin.close()


async def test_a_type_that_changed_under_the_same_text_is_judged_anew(place: Place) -> None:
    text = _text(0).replace(
        "select 0 as number\n", "select :value::numeric as number\n    parameters: {value: {type: string}}\n"
    )
    assert await place.reload(text)
    reply = await place.world.call("kept_number", {"value": "7"})
    assert reply.result["structuredContent"]["rows"] == [{"number": 7}]
    assert await place.reload(text.replace("{type: string}", "{type: boolean}"))
    reply = await place.world.call("kept_number", {"value": True})
    assert reply.result["isError"]
    assert "kept_number" in place.world.gateway.snapshot.sources["kept"].broken
    assert await place.reload(text.replace("{type: string}", "{type: integer}"))
    reply = await place.world.call("kept_number", {"value": 8})
    assert reply.result["structuredContent"]["rows"] == [{"number": 8}]
