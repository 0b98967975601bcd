"""Replicas that share answers through a real Redis: what they gain, and what a thief, a forger or an outage gains."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.auth.base import Verifier
from gateway.auth.verifier import open_verifier
from gateway.config.auth import AuthSettings
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.net.redis import RedisUnavailable, open_redis
from tests.auth.provider import Clock, FaultyProvider, answers, asking_settings, until, until_ready
from tests.servers.redis import RedisServer

GUIDE = Path(__file__).parents[2] / "docs/how-to/share-state-with-redis.md"
SHARED = {"backend": "redis"}


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FaultyProvider]:
    async with FaultyProvider() as opened:
        yield opened


@asynccontextmanager
async def replica(
    redis: RedisServer, settings: AuthSettings, *, clock: Any = time.time, **overrides: Any
) -> AsyncIterator[Verifier]:
    async with (
        open_redis(redis.settings(**overrides)) as opened,
        open_verifier(settings, redis=opened, clock=clock) as verifier,
    ):
        yield await until_ready(verifier)


async def entries(redis: RedisServer) -> dict[bytes, bytes]:
    async with open_redis(redis.settings()) as opened:

        async def everything(client: Any) -> dict[bytes, bytes]:
            return {key: await client.get(key) for key in await client.keys("*")}

        return await opened.run(everything)


async def _execute(command: tuple[str, ...], client: Any) -> None:
    await client.execute_command(*command)


async def write(redis: RedisServer, values: dict[bytes, bytes]) -> None:
    async with open_redis(redis.settings()) as opened:
        await opened.run(lambda client: client.mset(values))


async def test_one_replica_asks_for_all(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED)
    provider.hand_out("opaque", custom={"n": 2**70, "text": "\u00e9"})
    async with replica(own_redis, settings) as one, replica(own_redis, settings) as other:
        first = await one.verify("opaque")
        second = await other.verify("opaque")
        assert first == second
        assert second.claims["custom"] == {"n": 2**70, "text": "\u00e9"}
        assert other.known("opaque") is second
        assert len(provider.questions) == 1
        assert (one.counters.introspections, one.counters.shared_hits) == (1, 0)
        assert (other.counters.introspections, other.counters.shared_hits) == (0, 1)


async def test_nothing_in_redis_tells_anything(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED)
    provider.hand_out("opaque", sub="very-secret-subject")
    async with replica(own_redis, settings) as one:
        await one.verify("opaque")
    [(name, value)] = (await entries(own_redis)).items()
    digest = hashlib.sha256(b"opaque").hexdigest()
    for told in ("opaque", "very-secret-subject", "agent", provider.issuer, digest):
        assert told.encode() not in name + value
    assert name.startswith(b"gateway:verdict:")


async def test_no_jwt_goes_there_that_needs_no_question(own_redis: RedisServer, provider: FaultyProvider) -> None:
    async with replica(own_redis, asking_settings(provider, cache=SHARED)) as one:
        await one.verify(provider.issue("agent"))
    assert not await entries(own_redis)


async def test_a_forger_gains_nothing(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED)
    provider.hand_out("one", sub="poor")
    provider.hand_out("two", sub="rich")
    async with replica(own_redis, settings) as first:
        await first.verify("one")
        [poor] = await entries(own_redis)
        await first.verify("two")
        kept = await entries(own_redis)
        [rich] = kept.keys() - {poor}
    # Another name's value, a changed one, a cut one, an empty one, one of another key: each is a miss.
    changed = kept[poor][:-1] + bytes([kept[poor][-1] ^ 1])
    for forged in (kept[rich], changed, kept[poor][:10], b"", b"[]", kept[poor] + b"x", b"\xff" * 100_000):
        await write(own_redis, {poor: forged})
        asked = len(provider.questions)
        async with replica(own_redis, settings) as second:
            assert (await second.verify("one")).subject == "poor"
            assert second.counters.shared_hits == 0
        assert len(provider.questions) == asked + 1


@pytest.mark.parametrize("change", ["key", "prefix", "auth"])
async def test_what_another_configuration_wrote_is_not_seen(
    own_redis: RedisServer, provider: FaultyProvider, change: str
) -> None:
    settings = asking_settings(provider, cache=SHARED)
    provider.hand_out("opaque")
    async with replica(own_redis, settings) as one:
        await one.verify("opaque")
    overrides = {"key": {"key": "another key of 32 characters or so"}, "prefix": {"prefix": "other:"}}.get(change, {})
    if change == "auth":
        settings = asking_settings(provider, cache=SHARED, max_age="59s")
    async with replica(own_redis, settings, **overrides) as two:
        await two.verify("opaque")
        assert two.counters.shared_hits == 0
    assert len(provider.questions) == 2


async def test_revocation_is_noticed_in_time_by_all(own_redis: RedisServer, provider: FaultyProvider) -> None:
    clock = Clock(time.time())
    settings = asking_settings(provider, cache=SHARED, max_age="30s")
    provider.hand_out("opaque")
    async with replica(own_redis, settings, clock=clock) as one, replica(own_redis, settings, clock=clock) as other:
        await one.verify("opaque")
        del provider.known["opaque"]
        clock.now += 29.9
        # The second replica hears of it late, and believes it no longer than the first.
        await other.verify("opaque")
        # An old entry that somebody puts back ends when it always did.
        kept = await entries(own_redis)
        clock.now += 0.1
        await write(own_redis, kept)
        for each in (one, other):
            assert each.known("opaque") is None
            with pytest.raises(Unauthenticated):
                await each.verify("opaque")


async def test_entries_end_with_their_answers(own_redis: RedisServer, provider: FaultyProvider) -> None:
    provider.hand_out("opaque")
    async with replica(own_redis, asking_settings(provider, cache=SHARED, max_age="40s")) as one:
        await one.verify("opaque")
    [name] = await entries(own_redis)
    async with open_redis(own_redis.settings()) as opened:
        assert 35 <= await opened.run(lambda client: client.ttl(name)) <= 40


async def test_a_shared_verdict_leaves_with_its_key(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED, required=True)
    token = provider.issue("agent")
    provider.hand_out(token)
    async with replica(own_redis, settings) as one, replica(own_redis, settings) as other:
        await one.verify(token)
        await other.verify(token)
        assert other.counters.shared_hits == 1
        provider.rotate(keep_old=False)
        await other.verify(provider.hand_out(provider.issue("agent")))
        assert other.known(token) is None
        with pytest.raises(Unauthenticated):
            await other.verify(token)


async def test_redis_down_is_slower_and_neither_open_nor_down(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED)
    async with replica(own_redis, settings) as one:
        own_redis.kill()
        for number in range(50):
            provider.hand_out(f"t{number}")
            assert await one.verify(f"t{number}")
            with pytest.raises(Unauthenticated):
                await one.verify(f"garbage-{number}")
        assert one.is_ready
        own_redis.start()
    async with replica(own_redis, settings) as two:
        await two.verify("t1")
        assert two.counters.introspections == 1
        assert await entries(own_redis)


async def test_a_frozen_redis_costs_one_wait(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED)
    async with replica(own_redis, settings, timeout="200ms") as one:
        own_redis.signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            for number in range(20):
                assert await one.verify(provider.hand_out(f"t{number}"))
            # Twenty calls, one after another: the first waited, for the others Redis was left alone.
            assert time.monotonic() - started < 3 * 0.2 + 1
        finally:
            own_redis.signal(signal.SIGCONT)


async def test_with_both_away_nobody_is_let_in(own_redis: RedisServer, provider: FaultyProvider) -> None:
    settings = asking_settings(provider, cache=SHARED)
    provider.hand_out("opaque")
    async with replica(own_redis, settings) as one:
        own_redis.kill()
        provider.flowing.clear()
        waiting = asyncio.create_task(one.verify("opaque"))
        await until(lambda: provider.requests["/introspect"] == 1)
        provider.faults["/introspect"] = answers("", 500)
        provider.flowing.set()
        with pytest.raises(IdentityProviderUnavailable):
            await waiting


async def test_the_account_of_the_guide_may_do_what_is_needed(own_redis: RedisServer, provider: FaultyProvider) -> None:
    [rule] = re.findall(r"^ACL SETUSER (.*)$", GUIDE.read_text(), re.MULTILINE)
    async with open_redis(own_redis.settings()) as opened:
        await opened.run(lambda client: client.execute_command("ACL", "SETUSER", *rule.split()))
    account = {"user": "gateway", "password": "password", "url": f"redis://{own_redis.host}:{own_redis.port}/2"}
    provider.hand_out("opaque")
    settings = asking_settings(provider, cache=SHARED)
    async with replica(own_redis, settings, **account) as one, replica(own_redis, settings, **account) as two:
        await one.verify("opaque")
        await two.verify("opaque")
        assert two.counters.shared_hits == 1
    async with open_redis(own_redis.settings(**account)) as opened:
        for command in (("GET", "elsewhere"), ("FLUSHALL",), ("KEYS", "*")):
            with pytest.raises(RedisUnavailable, match="NoPermission"):
                await opened.run(partial(_execute, command))
