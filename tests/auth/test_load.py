"""Very many tokens: memory stays within its bounds, and good verdicts within reach."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc

import pytest

from gateway.auth.verifier import TokenVerifier, open_verifier
from gateway.errors import Unauthenticated
from tests.auth.provider import FaultyProvider, answers, asking_settings, auth_settings, until_ready
from tests.auth.tokens import ISSUER, claims, jwk, private_key, sign
from tests.tally import Tally

CLIENTS = 10_000
ROOM = 2_000
OPAQUE = 2_000
GARBAGE = 1_100


def memory() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def refused(verifier: TokenVerifier, token: str) -> None:
    try:
        await verifier.verify(token)
    except Unauthenticated:
        return
    pytest.fail("let in")


def tokens_of(numbers: range) -> list[str]:
    return [sign(claims(sub=f"client-{n}"), algorithm="EdDSA", kid="ed") for n in numbers]


async def test_ten_thousand_clients_leave_bounded_memory(tally: Tally) -> None:
    async with FaultyProvider() as provider:
        provider.faults["/jwks"] = answers(json.dumps({"keys": [jwk(private_key("EdDSA"), "EdDSA", "ed")]}))
        settings = auth_settings([ISSUER], jwks_uri=provider.jwks_uri, max_entries=ROOM)
        async with open_verifier(settings) as opened:
            verifier = await until_ready(opened)

            async def crowd(numbers: range) -> None:
                principals = await asyncio.gather(*(verifier.verify(token) for token in tokens_of(numbers)))
                assert [each.subject for each in principals] == [f"client-{n}" for n in numbers]
                for number in numbers[:GARBAGE]:
                    await refused(verifier, f"garbage-{number}")

            await crowd(range(ROOM))
            tracemalloc.start()
            try:
                before = memory()
                for start in range(ROOM, CLIENTS, ROOM):
                    await crowd(range(start, start + ROOM))
                    assert verifier.remembered() == (ROOM, 1024)
                grown = memory() - before
            finally:
                tracemalloc.stop()
            # What was there before was not traced; the entries that took its place are.
            tally(f"{CLIENTS} clients, room for {ROOM}: {grown / 1e6:.1f} MB")
            assert grown < (ROOM + 1024) * 6_000
            assert verifier.counters.misses == CLIENTS + CLIENTS // ROOM * GARBAGE
            assert verifier.counters.refusals == {"malformed": CLIENTS // ROOM * GARBAGE}


async def test_many_opaque_tokens_leave_nothing_in_the_air() -> None:
    async with (
        FaultyProvider() as provider,
        open_verifier(asking_settings(provider, cache={"max_entries": 50})) as opened,
    ):
        verifier = await until_ready(opened)
        for number in range(0, OPAQUE, 10):
            provider.hand_out(f"t{number}", sub=f"s{number}")
        for start in range(0, OPAQUE, 200):
            results = await asyncio.gather(
                *(verifier.verify(f"t{number}") for number in range(start, start + 200)), return_exceptions=True
            )
            good = [result.subject for result in results if not isinstance(result, BaseException)]
            assert good == [f"s{number}" for number in range(start, start + 200, 10)]
        assert verifier.remembered() == (50, 1024)
        assert len(verifier._flights) == 0
        assert verifier.counters.introspections == OPAQUE


async def test_a_known_token_costs_a_look(tally: Tally) -> None:
    async with FaultyProvider() as provider, open_verifier(asking_settings(provider)) as opened:
        verifier = await until_ready(opened)
        signed, opaque = provider.issue("agent"), provider.hand_out("opaque-token-of-usual-length-0123456789")
        for token in (signed, opaque):
            await verifier.verify(token)
            best = float("inf")
            for _ in range(20):
                started = time.perf_counter()
                for _ in range(1000):
                    verifier.known(token)
                best = min(best, time.perf_counter() - started)
            tally(f"known token of {len(token)} characters: {best * 1000:.2f} us")
            # A generous bound for a busy machine; the figure is what counts.
            assert best / 1000 < 50e-6
