"""Readiness: what makes the process unready, and what does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.config.loader import load
from gateway.server.app import open_gateway
from gateway.server.listener import StartError
from tests.servers.redis import RedisServer
from tests.world import CONFIGURATION, open_world

_WITH_A_DEAD_SOURCE = CONFIGURATION.replace(
    "tools:", '  dead: {engine: sqlite, path: "${env:DEAD}", required: false}\ntools:', 1
)


async def _ready(http: aiohttp.ClientSession, base: str) -> tuple[int, dict[str, Any]]:
    async with http.get(f"{base}/healthz/ready") as response:
        body: dict[str, Any] = await response.json()
        return response.status, body


async def test_a_source_that_is_not_required_never_makes_the_process_unready(tmp_path: Path) -> None:
    environment = {"DEAD": str(tmp_path / "missing.sqlite")}
    async with open_world(tmp_path, _WITH_A_DEAD_SOURCE, environment) as world:
        status, body = await _ready(world.http, world.base)
        assert status == 200
        assert body["sources"]["shop"] == {"status": "up", "required": True}
        assert body["sources"]["dead"] == {"status": "down", "required": False}
        assert list(body["issuers"].values()) == ["ready"]
        # Only the operators' listener says why.
        _, detailed = await _ready(world.http, world.gateway.admin_url)
        assert detailed["sources"]["dead"]["status"] not in ("down", "up")
        assert {name: each["breaker"] for name, each in detailed["sources"].items()}["shop"] == "closed"


async def test_a_required_source_that_is_down_makes_it_unready_and_its_tools_say_so(tmp_path: Path) -> None:
    required = _WITH_A_DEAD_SOURCE.replace("required: false", "required: true").replace(
        "  public_note:\n    description: Needs the default scope.\n    source: shop\n",
        "  public_note:\n    description: On a dead source.\n    source: dead\n    scopes: ['customers:read']\n",
    )
    late = tmp_path / "late.sqlite"
    environment = {"DEAD": str(late)}
    with pytest.raises(StartError, match="dead"):
        async with open_world(tmp_path, required, environment, patience=1.0):
            pass


async def test_a_source_that_comes_later_is_found(tmp_path: Path) -> None:
    late = tmp_path / "late.sqlite"
    text = _WITH_A_DEAD_SOURCE.replace(
        "  public_note:\n    description: Needs the default scope.\n    source: shop\n",
        "  public_note:\n    description: On a late source.\n    source: dead\n    scopes: ['customers:read']\n",
    )
    async with open_world(tmp_path, text, {"DEAD": str(late)}) as world:
        reply = await world.call("public_note")
        failure = reply.result["_meta"]["mcp-database-gateway/error"]
        assert (failure["code"], failure["retryable"]) == ("source_unavailable", True)
        assert failure["retry_after_ms"] > 0
        assert str(tmp_path) not in reply.body.decode()
        tools = {tool["name"]: tool for tool in (await world.modern("tools/list")).result["tools"]}
        assert "outputSchema" not in tools["public_note"]
        late.write_bytes(world.database.read_bytes())
        async with asyncio.timeout(15):
            while (await world.call("public_note")).result["isError"]:  # noqa: ASYNC110 - a client can only ask again
                await asyncio.sleep(0.05)
        tools = {tool["name"]: tool for tool in (await world.modern("tools/list")).result["tools"]}
        assert "outputSchema" in tools["public_note"]


async def test_an_address_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        port = world.base.rsplit(":", 1)[1]
        path = tmp_path / "second.yaml"
        path.write_text(f"server: {{port: {port}}}\nadmin: {{port: 0}}\nauth: {{mode: none}}\n")
        with pytest.raises(StartError, match=r"server\.port"):
            async with open_gateway(load(path)):
                pass


async def test_redis_is_told_of_and_makes_nobody_unready(tmp_path: Path, own_redis: RedisServer) -> None:
    text = CONFIGURATION.replace(
        "sources:",
        "  cache: {backend: redis}\n"
        'redis: {url: "${env:REDIS}", password: "${env:PASSWORD}", key: "${env:KEY}"}\nsources:',
        1,
    )
    url = f"redis://{own_redis.host}:{own_redis.port}"
    variables = {"REDIS": url, "PASSWORD": own_redis.password, "KEY": own_redis.key}
    async with open_world(tmp_path, text, variables) as world:
        status, body = await _ready(world.http, world.base)
        assert (status, body["redis"]) == (200, "up")
        own_redis.kill()
        assert world.gateway.snapshot.redis is not None
        assert not await world.gateway.snapshot.redis.ping()
        status, body = await _ready(world.http, world.base)
        assert (status, body["redis"]) == (200, "down")
        _, detailed = await _ready(world.http, world.gateway.admin_url)
        assert detailed["redis"] not in ("down", "up")
        assert (await world.call("customer_by_id", {"id": 1})).status == 200


async def test_only_operators_are_told_why_an_issuer_is_in_trouble(tmp_path: Path) -> None:
    text = CONFIGURATION.replace(
        'audiences: ["https://gateway.test/mcp"]',
        'audiences: ["https://gateway.test/mcp"]\n      introspection: {client_id: a, client_secret: "${env:SECRET}"}',
    )
    async with open_world(tmp_path, text, {"SECRET": "word"}) as world:
        # The development provider names no introspection endpoint.
        _, body = await _ready(world.http, world.base)
        assert list(body["issuers"].values()) == ["down"]
        _, detailed = await _ready(world.http, world.gateway.admin_url)
        assert "introspection" in next(iter(detailed["issuers"].values()))
        assert (await world.call("customer_by_id", {"id": 1})).status == 200
