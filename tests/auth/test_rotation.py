"""Keys that change: no wrong refusal beyond the cool-down, no verdict that outlives its key, no memory of strangers."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.auth.jwks import KeyPolicy
from gateway.auth.jwt import SigningKey, Token, is_signed_by, load_key
from gateway.auth.verifier import TokenVerifier, open_verifier
from gateway.errors import Unauthenticated
from tests.auth.provider import Clock, FaultyProvider, answers, auth_settings, until, until_ready
from tests.auth.tokens import ISSUER, claims, jwk, private_key, rsa_key, sign


def publish(provider: FaultyProvider, *keys: Any) -> None:
    provider.faults["/jwks"] = answers(json.dumps({"keys": keys}))


def rsa(name: str, kid: str | None) -> dict[str, Any]:
    return jwk(rsa_key(name), "RS256", kid)


def token(name: str, kid: str | None, **changes: Any) -> str:
    return sign(claims(**changes), key=rsa_key(name), kid=kid)


@asynccontextmanager
async def verifying(*keys: Any, **policy: Any) -> AsyncIterator[tuple[FaultyProvider, TokenVerifier, Clock, Clock]]:
    """A provider with these keys, and a verifier that has them, with both its clocks."""
    monotonic, clock = Clock(1000.0), Clock(0.0)
    clock.now = claims()["iat"]
    async with FaultyProvider() as provider:
        publish(provider, *keys)
        settings = auth_settings([ISSUER], jwks_uri=provider.jwks_uri)
        async with open_verifier(settings, policy=KeyPolicy(**policy), clock=clock, monotonic=monotonic) as opened:
            yield provider, await until_ready(opened), monotonic, clock


async def reason_of(verifier: TokenVerifier, text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(text)
    return caught.value.reason


@pytest.mark.parametrize("kid", ["k1", None])
async def test_a_new_key_under_the_old_name_or_without_any_is_found_at_once(kid: str | None) -> None:
    async with verifying(rsa("main", kid)) as (provider, verifier, monotonic, clock):
        old = token("main", kid)
        await verifier.verify(old)
        publish(provider, rsa("other", kid))
        assert await verifier.verify(token("other", kid))
        # The lost key is out, for the verdict that was made with it too.
        assert verifier.known(old) is None
        assert await reason_of(verifier, old) == "signature"
        # A second rotation within the cool-down waits for its end, and not longer.
        publish(provider, rsa("third", kid))
        late = token("third", kid)
        assert await reason_of(verifier, late) == "signature"
        monotonic.now += 30
        clock.now += 5
        assert await verifier.verify(late)


async def test_bad_signatures_ask_the_provider_once_in_a_cool_down() -> None:
    async with verifying(rsa("main", "k1")) as (provider, verifier, monotonic, _):
        before = provider.requests["/jwks"]
        for number in range(50):
            assert await reason_of(verifier, token("thief", "k1", sub=str(number))) == "signature"
            assert await reason_of(verifier, sign(claims(sub=str(number)), algorithm="ES256")) == "key_mismatch"
            assert await reason_of(verifier, token("thief", f"unknown-{number}")) == "unknown_key"
        assert provider.requests["/jwks"] == before + 1
        monotonic.now += 29.9
        assert await reason_of(verifier, token("thief", "k1")) == "signature"
        assert provider.requests["/jwks"] == before + 1
        monotonic.now += 0.1
        assert await reason_of(verifier, token("thief", "k1", sub="again")) == "signature"
        assert provider.requests["/jwks"] == before + 2


async def test_keys_that_share_a_name_are_all_tried() -> None:
    shared = [rsa("main", "k1"), rsa("other", "k1"), jwk(private_key("ES256"), "ES256", "k1")]
    async with verifying(*shared) as (provider, verifier, _, _):
        assert await verifier.verify(token("main", "k1"))
        assert await verifier.verify(token("other", "k1"))
        assert await verifier.verify(sign(claims(), algorithm="ES256", kid="k1"))
        assert await reason_of(verifier, token("thief", "k1")) == "signature"
        publish(provider, *shared[1:])
        assert await reason_of(verifier, token("thief", "k1")) == "signature"


async def test_one_name_for_many_keys_costs_four_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = [jwk(ed25519.Ed25519PrivateKey.generate(), "EdDSA", "k1") for _ in range(90)]
    async with verifying(*crowd) as (_, verifier, _, _):
        seen: list[SigningKey] = []

        def spy(signed: Token, key: SigningKey) -> bool:
            seen.append(key)
            return is_signed_by(signed, key)

        monkeypatch.setattr("gateway.auth.verifier.is_signed_by", spy)
        assert await reason_of(verifier, sign(claims(), algorithm="EdDSA", kid="k1")) == "signature"
        assert len(seen) == len(set(map(id, seen))) == 4


async def test_a_removed_key_is_out_with_the_next_refresh_for_every_verdict() -> None:
    async with verifying(rsa("main", "k1"), rsa("other", "k2"), refresh=0.02) as (provider, verifier, _, _):
        lost, kept = [token("main", "k1", sub=str(n)) for n in range(20)], token("other", "k2")
        for each in (*lost, kept):
            await verifier.verify(each)
        publish(provider, rsa("other", "k2"))
        await until(lambda: verifier.known(lost[0]) is None)
        assert not any(verifier.known(each) for each in lost)
        assert verifier.known(kept)
        assert verifier.remembered()[0] == 1


async def test_between_two_keys_of_a_set_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, turns = 0, []

    def spy(entry: Any) -> SigningKey:
        turns.append(ticks)
        return load_key(entry)

    monkeypatch.setattr("gateway.auth.jwks.load_key", spy)
    async with FaultyProvider() as provider:
        publish(provider, *[rsa("main", f"k{number}") for number in range(500)])
        async with open_verifier(auth_settings([ISSUER], jwks_uri=provider.jwks_uri)) as verifier:
            async with asyncio.timeout(10):
                while not verifier.is_ready:
                    await asyncio.sleep(0)
                    ticks += 1
    assert len(turns) == 100
    assert len(set(turns)) == 100


async def test_strangers_names_leave_nothing_behind() -> None:
    async with verifying(rsa("main", "k1")) as (_, verifier, _, _):

        async def strange(number: int) -> None:
            assert await reason_of(verifier, token("main", f"{number}-" + "x" * 500)) == "unknown_key"

        for number in range(20):
            await strange(number)
        gc.collect()  # what others left must not be counted here
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(500):
                await strange(number)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # The names alone would be 250,000 bytes.
        assert grown < 100_000
        assert verifier.remembered() == (0, 0)
