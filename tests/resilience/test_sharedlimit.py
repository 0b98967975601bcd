"""One budget for several replicas in a real Redis: exact, anonymous, and never a reason to wait or to let all in."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.net.redis import Redis, open_redis
from gateway.resilience.ratelimit import Rate, RateLimiter
from gateway.resilience.sharedlimit import SharedLimiter
from tests.database.support import ROUNDS, until
from tests.servers.redis import RedisServer

NAMES = itertools.count()
SLOW = Rate(1, 5)
"""Nothing flows in while a test runs."""


def name() -> tuple[str, ...]:
    """A client that no test met before."""
    return ("https://idp.example/", f"agent-{next(NAMES)}", "")


@asynccontextmanager
async def replicas(server: RedisServer, count: int, **settings: Any) -> AsyncIterator[list[SharedLimiter]]:
    """So many gateways, each with a connection and a memory of its own."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_redis(server.settings(**settings))) for _ in range(count)]
        yield [SharedLimiter(redis, RateLimiter(1000)) for redis in opened]


async def test_replicas_admit_together_what_one_would(redis: RedisServer) -> None:
    async with replicas(redis, 3) as limiters:
        for seed in range(ROUNDS):
            dice = random.Random(seed)
            rate, clients = Rate(1, dice.randint(1, 9)), [name() for _ in range(dice.randint(1, 3))]
            asked = [(dice.choice(limiters), dice.choice(clients)) for _ in range(dice.randint(1, 60))]
            waits = await asyncio.gather(*(limiter.admit(client, rate) for limiter, client in asked))
            admitted = Counter(client for (_, client), wait in zip(asked, waits, strict=True) if wait == 0.0)
            for client, count in Counter(client for _, client in asked).items():
                assert admitted[client] == min(count, rate.burst)
            assert all(wait == 0.0 or 50 < wait <= 60 for wait in waits)
        assert [limiter.fallbacks for limiter in limiters] == [0, 0, 0]


async def test_the_long_run_is_the_rate_and_who_waits_as_told_is_admitted(redis: RedisServer) -> None:
    rate, client, admitted = Rate(3000, 3), name(), 0
    async with replicas(redis, 2) as limiters:
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < 0.6:
            for limiter in limiters:
                admitted += await limiter.admit(client, rate) == 0.0
        assert 0.5 * elapsed / rate.interval < admitted <= rate.burst + (time.monotonic() - started) / rate.interval
        while (wait := await limiters[0].admit(client, rate)) == 0.0:
            pass
        assert wait <= rate.interval
        await asyncio.sleep(wait)
        assert await limiters[1].admit(client, rate) == 0.0


async def test_a_refusal_costs_nothing_and_is_remembered(own_redis: RedisServer) -> None:
    client = name()
    async with replicas(own_redis, 2) as (first, second):
        for _ in range(5):
            assert await first.admit(client, SLOW) == 0.0
        told = await second.admit(client, SLOW)
        own_redis.signal(signal.SIGSTOP)  # whoever was told to wait is refused without asking
        try:
            again = [await second.admit(client, SLOW) for _ in range(20)]
        finally:
            own_redis.signal(signal.SIGCONT)
        assert all(0 < wait <= told for wait in again)
        assert second.fallbacks == 0


async def _everything(redis: Redis) -> list[tuple[bytes, bytes, int]]:
    async def work(client: Any) -> list[tuple[bytes, bytes, int]]:
        return [(key, await client.get(key), await client.pttl(key)) for key in await client.keys("*")]

    return await redis.run(work)


async def test_what_is_stored_names_nobody_and_goes_away(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.settings(prefix="ours:")) as opened:
        limiter = SharedLimiter(opened, RateLimiter(10))
        rate = Rate(600, 5)
        for key in (("https://idp/", "agent", ""), ("https://idp/", "agen", "t"), ("https://idp/age", "nt", "\ud800")):
            assert await limiter.admit(key, rate) == 0.0
        stored = await _everything(opened)
        assert len({key for key, _, _ in stored}) == 3
        for name_there, value, left in stored:
            assert name_there.startswith(b"ours:rate:")
            assert len(name_there) == len(b"ours:rate:") + 32
            assert value.isdigit()
            assert 0 < left <= 102
        async with asyncio.timeout(10):
            while await _everything(opened):  # noqa: ASYNC110 - a server has no event of ours
                await asyncio.sleep(0.02)


async def test_gateways_with_another_key_or_prefix_do_not_share(redis: RedisServer) -> None:
    client, rate = name(), Rate(1, 1)
    for settings in ({}, {"prefix": "other:"}, {"key": "another key of more than 32 characters"}):
        async with replicas(redis, 1, **settings) as (limiter,):
            assert await limiter.admit(client, rate) == 0.0
            assert await limiter.admit(client, rate) > 0.0


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_without_redis_each_goes_on_alone_from_what_it_knew(own_redis: RedisServer, fault: str) -> None:
    known, new = name(), name()
    async with replicas(own_redis, 2, timeout="150ms") as limiters:
        first, second = limiters
        assert [await first.admit(known, SLOW) for _ in range(3)] == [0.0] * 3
        own_redis.kill() if fault == "killed" else own_redis.signal(signal.SIGSTOP)
        # Many at once: each waits for one time limit at most, and the budget holds.
        started = time.monotonic()
        waits = await asyncio.gather(*(first.admit(known, SLOW) for _ in range(50)))
        assert time.monotonic() - started < 1.0
        assert sum(wait == 0.0 for wait in waits) == 2
        assert sum([await second.admit(new, SLOW) == 0.0 for _ in range(50)]) == 5
        # From now on nobody waits at all.
        started = time.monotonic()
        for _ in range(200):
            await first.admit(name(), SLOW)
        assert time.monotonic() - started < 0.1
        assert first.fallbacks >= 200
        own_redis.restart() if fault == "killed" else own_redis.signal(signal.SIGCONT)
        await until(lambda: all(limiter._redis.is_up for limiter in limiters))
        before, shared = [limiter.fallbacks for limiter in limiters], name()
        waits = [await limiter.admit(shared, SLOW) for limiter in limiters * 5]
        assert sum(wait == 0.0 for wait in waits) == 5
        assert [limiter.fallbacks for limiter in limiters] == before


async def test_cancelled_requests_do_no_harm(redis: RedisServer) -> None:
    dice, rate = random.Random(7), Rate(1, 1000)
    async with replicas(redis, 2) as limiters:
        for _ in range(ROUNDS):
            client = name()
            tasks = [asyncio.create_task(dice.choice(limiters).admit(client, rate)) for _ in range(12)]
            for task in dice.sample(tasks, 6):
                asyncio.get_running_loop().call_later(dice.random() * 0.002, task.cancel)
            waits = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(wait == 0.0 or isinstance(wait, asyncio.CancelledError) for wait in waits)
        # Answers still belong to their questions.
        for _ in range(20):
            assert await limiters[0].admit(name(), Rate(1, 1)) == 0.0


@pytest.mark.parametrize("spoilt", ["garbage", "nan", "-inf", "inf", "1e300", "-1", ""])
async def test_what_somebody_spoilt_neither_opens_nor_locks(redis: RedisServer, spoilt: str) -> None:
    client, rate = name(), Rate(600, 5)
    async with replicas(redis, 2) as (limiter, other):
        await limiter._redis.run(lambda c: c.set(limiter._name(client), spoilt))
        started = time.monotonic()
        waits = [await each.admit(client, rate) for each in (limiter, other) * 10]
        assert sum(wait == 0.0 for wait in waits) <= 5 + (time.monotonic() - started) / rate.interval
        assert max(waits) <= rate.interval
        await asyncio.sleep(rate.interval)
        assert await limiter.admit(client, rate) == 0.0
        assert limiter.fallbacks == 0
