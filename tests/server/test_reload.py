"""Another configuration takes the place of the running one, and no call notices but by its answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.problems import ConfigError
from gateway.server.live import NotReady, Replaced
from gateway.tools.loading import load_with_tools
from tests.database.support import until
from tests.servers.redis import RedisServer
from tests.world import CONFIGURATION as WORLD
from tests.world import World, open_world

NOTE = "select 'note' as note"
CONFIGURATION = WORLD.replace("Needs the default scope.", 'A note.\n    scopes: ["customers:read"]')


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, CONFIGURATION) as world:
        yield world


async def reload(world: World, text: str, settling: float = 10.0) -> Replaced:
    path = world.database.parent / "gateway.yaml"
    path.write_text(text)
    variables = {"ISSUER": world.provider.issuer, "DATABASE": str(world.database)}
    configuration = load_with_tools(path, environment=os.environ | variables)
    return await world.gateway.live.replace(configuration, settling)


async def tools(world: World, client: str = "reader") -> list[str]:
    listed = (await world.modern("tools/list", client=client)).result["tools"]
    return [tool["name"] for tool in listed]


async def note(world: World) -> Any:
    return (await world.call("public_note")).result["structuredContent"]["rows"][0]


async def test_another_statement_answers_from_now_on(world: World) -> None:
    assert await note(world) == {"note": "note"}
    replaced = await reload(world, CONFIGURATION.replace(NOTE, "select 'other' as note, 1 as more"))
    assert (replaced.changes, replaced.waiting) == (("tools.public_note.statement",), ())
    assert await note(world) == {"note": "other", "more": 1}
    listed = {tool["name"]: tool for tool in (await world.modern("tools/list")).result["tools"]}
    row = listed["public_note"]["outputSchema"]["properties"]["rows"]["items"]
    assert row["required"] == ["note", "more"]  # prepared before the first caller could see it


async def test_tools_and_sources_that_are_not_enabled_do_not_exist(world: World) -> None:
    assert "public_note" in await tools(world)
    await reload(world, CONFIGURATION.replace(NOTE, f"{NOTE}\n    enabled: false"))
    assert "public_note" not in await tools(world)
    assert (await world.call("public_note")).error["code"] == -32602
    off = CONFIGURATION.replace("access: read-write,", "access: read-write, enabled: false,")
    assert "rename_slowly" in await tools(world, "clerk")
    await reload(world, off)
    assert "rename_slowly" not in await tools(world, "clerk")
    assert world.gateway.snapshot.sources.keys() == {"shop"}
    assert await note(world) == {"note": "note"}


async def test_what_did_not_change_is_handed_over(world: World) -> None:
    before = world.gateway.snapshot
    await world.call("public_note")
    text = CONFIGURATION.replace(NOTE, "select 'other' as note").replace("required: true, ", "")
    await reload(world, text)
    after = world.gateway.snapshot
    assert after is not before
    assert after.verifier is before.verifier
    assert after.admission is before.admission
    assert all(after.sources[name].pools is before.sources[name].pools for name in before.sources)
    assert not after.sources["shop"].required
    await until(lambda: world.gateway.live.retiring == 0)
    assert await note(world) == {"note": "other"}


async def test_verdicts_of_other_rules_are_gone(world: World) -> None:
    assert (await world.call("public_note")).status == 200
    before = world.gateway.snapshot.verifier
    await reload(world, CONFIGURATION.replace("https://gateway.test/mcp", "https://elsewhere.test/mcp"))
    assert world.gateway.snapshot.verifier is not before
    assert (await world.call("public_note")).status == 401
    await reload(world, CONFIGURATION)
    assert (await world.call("public_note")).status == 200


async def test_limits_that_stay_go_on_counting(world: World) -> None:
    tight = CONFIGURATION.replace("requests_per_minute: 100000, burst: 10000", "requests_per_minute: 1, burst: 2")
    await reload(world, tight)
    assert [(await world.call("public_note")).status for _ in range(3)] == [200, 200, 429]
    await reload(world, tight.replace(NOTE, "select 'other' as note"))
    assert (await world.call("public_note")).status == 429
    await reload(world, CONFIGURATION)
    assert (await world.call("public_note")).status == 200


async def test_a_call_finishes_on_the_snapshot_it_began_with(world: World) -> None:
    source = world.gateway.snapshot.sources["shop"]
    running = asyncio.create_task(world.call("count_slowly", {"n": 3_000_000}))
    await until(lambda: source.stats.active == 1)
    # The tool, the account and the pool of the call all go.
    gone = CONFIGURATION.replace("statement_timeout: 20s}", "statement_timeout: 19s}")
    start, end = gone.index("  count_slowly:"), gone.index("  rename_slowly:")
    await reload(world, gone[:start] + gone[end:])
    assert world.gateway.live.retiring == 1
    assert world.gateway.snapshot.sources["shop"].pools is not source.pools
    assert (await world.call("count_slowly", {"n": 1})).error["code"] == -32602
    assert not running.done()
    assert (await running).result["structuredContent"]["rows"] == [{"counted": 3_000_000}]
    await until(lambda: world.gateway.live.retiring == 0)
    assert source.stats.idle == source.stats.active == 0


async def test_a_write_whose_client_left_is_seen_through_over_a_reload(world: World) -> None:
    source = world.gateway.snapshot.sources["shop_rw"]
    arguments = {"id": 1, "name": "Seen Through", "n": 2_000_000}
    params = {"name": "rename_slowly", "arguments": arguments}
    await until(lambda: source.is_settled and source.stats.active == 0)  # statements are prepared on it, too
    running = asyncio.create_task(world.legacy("tools/call", params, client="clerk"))
    await until(lambda: source.stats.active == 1)
    running.cancel()
    await asyncio.wait({running})
    await reload(world, CONFIGURATION.replace("statement_timeout: 20s}", "statement_timeout: 19s}"))
    await until(lambda: world.gateway.live.retiring == 0)
    reply = await world.call("customer_by_id", {"id": 1})
    assert reply.result["structuredContent"]["rows"][0]["name"] == "Seen Through"


async def test_toolsets_and_their_metadata_come_and_go(world: World) -> None:
    path = "/.well-known/oauth-protected-resource/mcp/notes"
    with_toolset = CONFIGURATION + "toolsets:\n  notes: {title: Notes, tools: [public_note]}\n"
    async with world.http.get(world.base + path) as response:
        assert response.status == 404
    await reload(world, with_toolset)
    async with world.http.get(world.base + path) as response:
        assert response.status == 200
        assert (await response.json())["resource_name"] == "Notes"
    async with world.http.post(world.base + path) as response:
        assert response.status == 405
    async with world.http.post(f"{world.base}/mcp/notes") as response:
        assert response.status == 401
    await reload(world, CONFIGURATION)
    async with world.http.post(f"{world.base}/mcp/notes") as response:
        assert response.status == 404


async def test_what_needs_a_restart_is_named_and_the_rest_applies(world: World) -> None:
    text = CONFIGURATION.replace("port: 0}\nlimits", "port: 9999}\nlimits").replace(NOTE, "select 'other' as note")
    replaced = await reload(world, text)
    assert replaced.waiting == ("admin.port",)
    assert replaced.changes == ("admin.port", "tools.public_note.statement")
    assert await note(world) == {"note": "other"}
    assert world.gateway.snapshot.settings.admin.port == 0


async def test_an_unready_configuration_does_not_replace_a_ready_one(world: World, tmp_path: Path) -> None:
    before = world.gateway.snapshot
    with pytest.raises(NotReady, match="shop"):
        await reload(world, CONFIGURATION.replace('path: "${env:DATABASE}", required', "path: ./absent, required"), 0.3)
    assert world.gateway.snapshot is before
    assert world.gateway.live.retiring == 0
    assert await note(world) == {"note": "note"}
    with pytest.raises(ConfigError):
        await reload(world, CONFIGURATION.replace("where id = :id\n", "where id = :other\n"))
    assert world.gateway.snapshot is before


async def test_another_key_of_redis_is_another_redis(world: World, redis: RedisServer) -> None:
    folder = world.database.parent
    (folder / "key").write_text("k" * 64)
    (folder / "password").write_text(redis.password)
    where = f"url: 'redis://{redis.host}:{redis.port}', password: '${{file:password}}', key: '${{file:key}}'"
    text = f"{CONFIGURATION}\nredis: {{{where}}}\n".replace("limits: {", "limits: {backend: redis, ")
    await reload(world, text)
    first = world.gateway.snapshot
    assert first.redis is not None
    await reload(world, text.replace(NOTE, "select 'other' as note"))
    assert world.gateway.snapshot.redis is first.redis
    assert world.gateway.snapshot.admission is first.admission
    (folder / "key").write_text("l" * 64)
    await reload(world, text)
    assert world.gateway.snapshot.redis is not first.redis
    assert world.gateway.snapshot.verifier is not first.verifier
    assert world.gateway.snapshot.admission is not first.admission
    await until(lambda: world.gateway.live.retiring == 0)
    assert await note(world) == {"note": "note"}
    await reload(world, CONFIGURATION)
    assert world.gateway.snapshot.redis is None
