"""Two gateways and one Redis: they share a budget while it answers, and go on at once when it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.loader import load
from gateway.server.app import Gateway, open_gateway
from tests.servers.redis import RedisServer
from tests.world import CONFIGURATION, Reply, World, envelope, open_world, routing

DEFAULTS = "{requests_per_minute: 100000, burst: 10000, failed_logins_burst: 10000, concurrency_per_client: 100}"
LIMITS = """
  backend: redis
  requests_per_minute: 1
  burst: 10
  tools: {orders_total: {requests_per_minute: 1, burst: 3}}
redis: {url: "${env:REDIS_URL}", password: "${env:REDIS_PASSWORD}", key: "${env:REDIS_KEY}", timeout: 1s}
"""


@asynccontextmanager
async def two(folder: Path, server: RedisServer) -> AsyncIterator[tuple[World, Gateway]]:
    """A world, and a second replica of its gateway."""
    variables = {
        "REDIS_URL": f"redis://{server.host}:{server.port}",
        "REDIS_PASSWORD": server.password,
        "REDIS_KEY": server.key,
    }
    assert DEFAULTS in CONFIGURATION
    async with open_world(folder, CONFIGURATION.replace(DEFAULTS, LIMITS), variables) as world:
        variables |= {"ISSUER": world.provider.issuer, "DATABASE": str(world.database)}
        configuration = load(folder / "gateway.yaml", environment=os.environ | variables)
        async with open_gateway(configuration) as second:
            await second.until_ready(10)
            yield world, second


async def ask(world: World, gateway: Gateway, client: str = "reader", tool: str = "") -> Reply:
    """One request to one of the two."""
    body = envelope("tools/call", {"name": tool, "arguments": {}}) if tool else envelope("tools/list")
    return await world.send(body, client=client, headers=routing(body), url=gateway.url)


async def admitted(world: World, *gateways: Gateway, client: str, times: int = 20) -> int:
    """How many of so many requests were admitted, sent to the gateways in turn."""
    replies = [await ask(world, gateways[number % len(gateways)], client) for number in range(times)]
    assert {reply.status for reply in replies} <= {200, 429}
    assert all(reply.error["code"] == -32005 for reply in replies if reply.status == 429)
    return sum(reply.status == 200 for reply in replies)


async def test_two_gateways_share_one_budget(redis: RedisServer, tmp_path: Path) -> None:
    async with two(tmp_path, redis) as (world, second):
        assert await admitted(world, world.gateway, second, client="stranger") == 10
        replies = [await ask(world, each, tool="orders_total") for each in (world.gateway, second) * 3]
        assert [reply.status for reply in replies] == [200] * 3 + [429] * 3
        assert replies[-1].error["data"]["limit"] == "tool"
        assert 0 < replies[-1].error["data"]["retry_after_ms"] <= 60_000
        assert world.gateway.admission.fallbacks == second.admission.fallbacks == 0


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_they_go_on_without_it_and_share_again_when_it_is_back(
    own_redis: RedisServer, tmp_path: Path, fault: str
) -> None:
    async with two(tmp_path, own_redis) as (world, second):
        assert await admitted(world, world.gateway, client="reader", times=6) == 6
        own_redis.kill() if fault == "killed" else own_redis.signal(signal.SIGSTOP)
        started = time.monotonic()
        # What the first had counted is not forgotten; the second counts for itself.
        assert await admitted(world, world.gateway, client="reader") == 4
        assert await admitted(world, second, client="clerk") == 10
        assert time.monotonic() - started < 6
        slowest = 0.0
        for _ in range(20):
            before = time.monotonic()
            assert (await ask(world, world.gateway, "clerk")).status in (200, 429)
            slowest = max(slowest, time.monotonic() - before)
        assert slowest < 0.5  # of a time limit of 1 s
        assert world.gateway.admission.fallbacks > 0
        async with world.http.get(f"{world.gateway.admin_url}/metrics") as response:
            told = await response.text()
        assert "\ngateway_redis_up 0.0\n" in told
        assert f"\ngateway_rate_limit_fallbacks_total {world.gateway.admission.fallbacks:.1f}\n" in told
        own_redis.restart() if fault == "killed" else own_redis.signal(signal.SIGCONT)
        redises = [each.snapshot.redis for each in (world.gateway, second)]
        async with asyncio.timeout(10):
            while not all(each is not None and each.is_up for each in redises):  # noqa: ASYNC110 - it knocks by itself
                await asyncio.sleep(0.02)
        assert await admitted(world, world.gateway, second, client="stranger") == 10


async def test_they_start_without_it(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.kill()
    async with two(tmp_path, own_redis) as (world, second):
        assert await admitted(world, world.gateway, client="reader") == 10
        assert await admitted(world, second, client="reader") == 10
