"""Provider and Redis die, stall and come back while callers come and go: nobody is mistaken, nothing is left."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

from gateway.auth.introspection import InquiryPolicy
from gateway.auth.verifier import open_verifier
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from gateway.net.redis import open_redis
from tests.auth.provider import FaultyProvider, answers, asking_settings, until_ready
from tests.servers.redis import RedisServer
from tests.tally import Tally

ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "50"))
FAULTS = (answers("", 500), answers("<html>"), answers("{}"), answers("", 302, Location="/"))


async def test_nobody_is_mistaken_for_another(own_redis: RedisServer, tally: Tally) -> None:
    chance = random.Random(7)
    seen: Counter[str] = Counter()
    async with FaultyProvider() as provider, open_redis(own_redis.settings(timeout="100ms")) as redis:
        settings = asking_settings(provider, cache={"backend": "redis", "max_entries": 10}, max_age="200ms")
        for number in range(30):
            provider.hand_out(f"good-{number}", sub=f"s{number}")

        async with open_verifier(settings, redis=redis, inquiry=InquiryPolicy(timeout=0.5)) as opened:
            verifier = await until_ready(opened)

            async def call() -> None:
                number = chance.randrange(45)
                token = f"good-{number}"
                task = asyncio.create_task(verifier.verify(token))
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.random() * 0.005)
                    task.cancel()
                try:
                    principal = await task
                except asyncio.CancelledError:
                    seen["cancelled"] += 1
                except IdentityProviderUnavailable:
                    seen["unavailable"] += 1
                except Unauthenticated as error:
                    seen[error.reason] += 1
                    assert number >= 30, "a good token was refused"
                else:
                    seen["let in"] += 1
                    assert number < 30, "a stranger was let in"
                    assert principal.subject == f"s{number}"

            for turn in range(ROUNDS):
                match turn % 10:
                    case 3:
                        provider.faults["/introspect"] = chance.choice(FAULTS)
                    case 5:
                        own_redis.kill()
                    case 6:
                        provider.faults.clear()
                    case 8:
                        own_redis.start()
                await asyncio.gather(*(call() for _ in range(20)))
                await asyncio.sleep(0.02)
            assert verifier.remembered()[0] <= 10
        assert len(verifier._flights) == 0
    tally(", ".join(f"{what} {count}" for what, count in seen.most_common()))
    assert {"let in", "inactive", "unavailable", "cancelled"} <= seen.keys()
