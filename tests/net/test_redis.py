"""A shared Redis that is up, down, frozen, slow and strict: real servers, real faults."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.config.problems import ConfigError
from gateway.config.secrets import FileSecret
from gateway.net.redis import MAX_CONNECTIONS, Redis, RedisUnavailable, open_redis, problems
from tests.auth.provider import until
from tests.servers.redis import RedisServer


async def get(redis: Redis, key: str) -> Any:
    return await redis.run(lambda client: client.get(key))


async def put(redis: Redis, key: str, value: str) -> None:
    await redis.run(lambda client: client.set(key, value))


async def test_it_serves(redis: RedisServer) -> None:
    async with open_redis(redis.settings()) as opened:
        assert opened.is_up
        assert opened.status() == "ready"
        assert opened.certificate_expires_at is None
        await put(opened, "serves", "v")
        assert await get(opened, "serves") == b"v"
    assert not opened.is_up


async def test_databases_are_apart(redis: RedisServer) -> None:
    url = f"redis://{redis.host}:{redis.port}"
    async with open_redis(redis.settings(url=f"{url}/3")) as third, open_redis(redis.settings(url=f"{url}/")) as zeroth:
        await put(third, "apart", "3")
        assert await get(zeroth, "apart") is None


async def test_tls_is_verified(tls_redis: RedisServer) -> None:
    async with open_redis(tls_redis.settings()) as opened:
        assert opened.is_up
        await put(opened, "k", "v")
        assert await get(opened, "k") == b"v"
        assert opened.certificate_expires_at == pytest.approx(time.time() + 86_400, abs=600)
    async with open_redis(tls_redis.settings(ca=None)) as opened:
        assert not opened.is_up
        assert opened.status() != "ready"
        assert opened.certificate_expires_at is None, "what does not verify tells nothing"


async def test_a_wrong_password_is_an_outage(redis: RedisServer) -> None:
    async with open_redis(redis.settings(password="wrong")) as opened:
        assert not opened.is_up
        assert "AuthenticationError" in opened.status()
        with pytest.raises(RedisUnavailable):
            await get(opened, "k")


async def test_scripts_are_sent_again_when_forgotten(own_redis: RedisServer) -> None:
    script = "return redis.call('incrby', KEYS[1], ARGV[1])"
    async with open_redis(own_redis.settings()) as opened:
        assert await opened.evaluate(script, ["n"], [2]) == 2
        await opened.run(lambda client: client.script_flush())
        assert await opened.evaluate(script, ["n"], [3]) == 5


async def test_a_refused_operation_is_no_outage(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with open_redis(redis.settings()) as opened:
        await put(opened, "text", "v")
        for _ in range(3):
            with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
                await opened.run(lambda client: client.lpush("text", "x"))
        assert opened.is_up
        assert "WRONGTYPE" in opened.status()
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
        assert await get(opened, "text") == b"v"


async def test_an_outage_costs_nothing_and_is_told_once(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.net.redis")
    async with open_redis(own_redis.settings()) as opened:
        await put(opened, "k", "v")
        own_redis.kill()
        for _ in range(500):
            with pytest.raises(RedisUnavailable):
                await get(opened, "k")
        assert not opened.is_up
        # Nothing is sent while it is down: the answer comes within one step of the loop.
        refused = get(opened, "k")
        with pytest.raises(RedisUnavailable):
            refused.send(None)
        own_redis.start()
        await until(lambda: opened.is_up)
        await put(opened, "k", "new")
        assert await get(opened, "k") == b"new"
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]


async def test_a_redis_that_is_down_at_the_start_is_found_later(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with open_redis(own_redis.settings()) as opened:
        assert not opened.is_up
        own_redis.start()
        await until(lambda: opened.is_up)
        await put(opened, "k", "v")


async def test_a_frozen_redis_holds_nobody_longer_than_its_time(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.settings(timeout="100ms")) as opened:
        own_redis.signal(signal.SIGSTOP)
        started = time.monotonic()
        results = await asyncio.gather(*(get(opened, "k") for _ in range(100)), return_exceptions=True)
        assert all(isinstance(result, RedisUnavailable) for result in results)
        assert time.monotonic() - started < 1.0
        assert "no answer within 0.1 s" in opened.status()
        own_redis.signal(signal.SIGCONT)
        await until(lambda: opened.is_up)
        await put(opened, "k", "v")


async def test_connections_are_bounded(redis: RedisServer) -> None:
    async with open_redis(redis.settings(timeout="5s")) as opened:
        await asyncio.gather(*(get(opened, "k") for _ in range(500)))
        clients = await opened.run(lambda client: client.client_list())
        assert 1 <= len(clients) <= MAX_CONNECTIONS + 1 + 4  # and those of the tests beside
        assert opened.is_up


async def test_cancelled_operations_mix_nothing_up(redis: RedisServer) -> None:
    chance = random.Random(5)
    async with open_redis(redis.settings(timeout="5s")) as opened:
        for number in range(10):
            await put(opened, f"mix-{number}", str(number))

        async def once() -> int:
            number = chance.randrange(10)
            task = asyncio.create_task(get(opened, f"mix-{number}"))
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.002)
                task.cancel()
            try:
                assert await task == str(number).encode()
            except asyncio.CancelledError:
                return 1
            return 0

        cancelled = 0
        for _ in range(40):
            cancelled += sum(await asyncio.gather(*(once() for _ in range(25))))
        assert cancelled
        assert opened.is_up
        assert all([await get(opened, f"mix-{number}") == str(number).encode() for number in range(10)])


async def test_the_password_is_read_again_for_each_connection(own_redis: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    settings = own_redis.settings().model_copy(update={"password": FileSecret(file, "wrong")})
    async with open_redis(settings) as opened:
        assert not opened.is_up
        file.write_text(own_redis.password)
        await until(lambda: opened.is_up)


async def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redis" else find(name))
    settings = RedisServer.__new__(RedisServer)
    settings.authority, settings.port, settings.password, settings.key = None, 1, "p", "k" * 32
    assert problems(None) == ()
    (problem,) = problems(settings.settings())
    assert "mcp-database-gateway[redis]" in problem.message
    with pytest.raises(ConfigError):
        async with open_redis(settings.settings()):
            pass
