"""Verdicts over time: rotation, outages, expiry, and who waits for whom."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from gateway.auth.jwks import KeyPolicy
from gateway.auth.jwt import SigningKey, Token, is_signed_by
from gateway.auth.problems import problems
from gateway.auth.verifier import TokenVerifier, open_verifier
from gateway.config.auth import AuthSettings, IssuerSettings
from gateway.config.problems import ConfigError
from gateway.context import Principal
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from tests.auth.provider import Clock, FaultyProvider, answers, auth_settings, until, until_ready
from tests.auth.tokens import AUDIENCE, ISSUER, claims, jwk, private_key, rsa_key, sign


async def reason_of(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    return caught.value.reason


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithm of every signature that is really checked."""
    seen: list[str] = []

    def spy(token: Token, key: SigningKey) -> bool:
        seen.append(token.algorithm)
        return is_signed_by(token, key)

    monkeypatch.setattr("gateway.auth.verifier.is_signed_by", spy)
    return seen


async def test_from_the_provider_to_the_principal(checks: list[str]) -> None:
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer])) as opened:
        verifier = await until_ready(opened)
        token = provider.issue("agent", scopes=["a"])
        assert verifier.known(token) is None
        principal = await verifier.verify(token)
        assert (principal.issuer, principal.subject, principal.client_id) == (provider.issuer, "agent", "agent")
        assert principal.grants(frozenset("a"))
        assert not principal.grants(frozenset("ab"))
        assert verifier.known(token) is principal
        assert await verifier.verify(token) is principal
        assert verifier.status() == {provider.issuer: "ready"}
        assert checks == ["RS256"]


async def test_opening_never_waits_and_a_first_call_waits_for_the_keys() -> None:
    async with FaultyProvider() as provider:
        provider.flowing.clear()
        async with open_verifier(auth_settings([provider.issuer])) as verifier:
            assert not verifier.is_ready
            assert verifier.status() == {provider.issuer: "no keys were loaded yet"}
            waiting = asyncio.create_task(verifier.verify(provider.issue("agent")))
            await provider.asked.wait()
            provider.flowing.set()
            assert (await waiting).subject == "agent"
            assert verifier.is_ready


async def test_no_call_is_refused_in_the_moment_in_which_keys_come() -> None:
    async with FaultyProvider() as provider:
        provider.flowing.clear()
        tokens = [provider.issue("agent") for _ in range(500)]  # each another one
        async with open_verifier(auth_settings([provider.issuer])) as verifier:
            await provider.asked.wait()
            provider.flowing.set()
            calls: list[asyncio.Task[Principal]] = []
            for token in tokens:
                calls.append(asyncio.create_task(verifier.verify(token)))
                await asyncio.sleep(0)  # one in each turn of the loop, so that one of them meets the keys on its way
                if verifier.is_ready:
                    break
            assert {principal.subject for principal in await asyncio.gather(*calls)} == {"agent"}
            assert verifier.is_ready


async def test_without_any_keys_the_provider_is_unavailable_and_the_token_not_blamed() -> None:
    async with FaultyProvider() as provider:
        provider.break_all(answers("", 500))
        async with open_verifier(auth_settings([provider.issuer]), policy=KeyPolicy(cool_down=0)) as verifier:
            token = provider.issue("agent")
            with pytest.raises(IdentityProviderUnavailable) as caught:
                await verifier.verify(token)
            assert provider.issuer not in caught.value.message
            assert "500" in caught.value.detail
            provider.faults.clear()
            assert (await verifier.verify(token)).subject == "agent"


async def test_the_other_issuers_outage_does_not_matter() -> None:
    async with FaultyProvider() as one, FaultyProvider() as other:
        other.flowing.clear()
        async with open_verifier(auth_settings([one.issuer, other.issuer])) as verifier:
            assert (await verifier.verify(one.issue("agent"))).issuer == one.issuer
            assert verifier.is_ready
            assert verifier.status() == {one.issuer: "ready", other.issuer: "no keys were loaded yet"}
        other.flowing.set()


async def test_keys_are_kept_per_issuer() -> None:
    async with (
        FaultyProvider() as one,
        FaultyProvider() as other,
        open_verifier(auth_settings([one.issuer, other.issuer])) as opened,
    ):
        verifier = await until_ready(opened)
        await until(lambda: set(opened.status().values()) == {"ready"})
        # Signed by one, in the name of the other.
        assert await reason_of(verifier, one.issue("agent", claims={"iss": other.issuer})) == "unknown_key"


async def test_rotation_is_followed_without_a_refusal() -> None:
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer])) as opened:
        verifier = await until_ready(opened)
        old = provider.issue("agent")
        await verifier.verify(old)
        provider.rotate()
        assert (await verifier.verify(provider.issue("agent"))).subject == "agent"
        assert verifier.known(old)


async def test_after_an_emergency_rotation_verdicts_of_the_lost_key_are_dropped() -> None:
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer])) as opened:
        verifier = await until_ready(opened)
        stolen = provider.issue("agent")
        await verifier.verify(stolen)
        provider.rotate(keep_old=False)
        assert verifier.known(stolen)
        # The first token of the new key brings the new set, in which the old key is missing.
        assert (await verifier.verify(provider.issue("agent"))).subject == "agent"
        assert verifier.known(stolen) is None
        assert await reason_of(verifier, stolen) == "unknown_key"


async def test_known_keys_serve_while_the_provider_is_down_slow_or_mad() -> None:
    monotonic = Clock(0.0)
    async with FaultyProvider() as provider:
        settings = auth_settings([provider.issuer])
        async with open_verifier(settings, policy=KeyPolicy(timeout=0.2), monotonic=monotonic) as opened:
            verifier = await until_ready(opened)
            for fault in (answers("", 500), answers("<html>"), answers('{"keys": []}')):
                provider.break_all(fault)
                assert (await verifier.verify(provider.issue("agent"))).subject == "agent"
            provider.flowing.clear()
            stranger = asyncio.create_task(verifier.verify(sign(claims(iss=provider.issuer), kid="nobody")))
            await asyncio.sleep(0)
            # A fetch is in the air; who holds a known key is served within the same step of the loop.
            served = verifier.verify(provider.issue("agent"))
            with pytest.raises(StopIteration) as done:
                served.send(None)
            assert done.value.value.subject == "agent"
            with pytest.raises(IdentityProviderUnavailable):  # its key may be a new one
                await stranger
            provider.flowing.set()
            monotonic.now = 86_401
            provider.break_all(answers("", 500))
            with pytest.raises(IdentityProviderUnavailable):
                await verifier.verify(provider.issue("agent"))


async def test_concurrent_first_uses_verify_once(checks: list[str]) -> None:
    async with FaultyProvider() as provider:
        provider.flowing.clear()
        async with open_verifier(auth_settings([provider.issuer])) as verifier:
            token = provider.issue("agent")
            waiting = [asyncio.create_task(verifier.verify(token)) for _ in range(50)]
            await provider.asked.wait()
            provider.flowing.set()
            principals = await asyncio.gather(*waiting)
            assert all(principal is principals[0] for principal in principals)
            assert checks == ["RS256"]
            assert provider.requests["/jwks"] == 1


async def test_a_verdict_is_made_anew_before_the_token_expires(checks: list[str]) -> None:
    clock = Clock(time.time())
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer]), clock=clock) as opened:
        verifier = await until_ready(opened)
        start = int(clock.now)
        clock.now = float(start)
        token = provider.issue("agent", claims={"iat": start, "exp": start + 3600})
        await verifier.verify(token)
        clock.now = start + 3299.9
        assert verifier.known(token)
        clock.now = start + 3300
        assert verifier.known(token) is None
        await verifier.verify(token)
        assert len(checks) == 2
        # 300 s of life are left: a fifth of them is the buffer.
        clock.now = start + 3300 + 239.9
        assert verifier.known(token)
        clock.now = start + 3300 + 240
        assert verifier.known(token) is None
        clock.now = start + 3600
        await verifier.verify(token)
        assert verifier.known(token) is None  # within leeway, not remembered
        clock.now = start + 3629.9
        await verifier.verify(token)
        clock.now = start + 3630
        assert await reason_of(verifier, token) == "expired"


async def test_a_remembered_token_that_expires_is_refused() -> None:
    clock = Clock(time.time())
    async with FaultyProvider() as provider:
        settings = auth_settings([provider.issuer], max_age="1h", expiry_buffer="0s")
        async with open_verifier(settings, clock=clock) as opened:
            verifier = await until_ready(opened)
            exp = int(clock.now) + 60
            token = provider.issue("agent", claims={"exp": exp})
            await verifier.verify(token)
            clock.now = exp - 0.1
            assert verifier.known(token)
            clock.now = exp + 30
            assert verifier.known(token) is None
            assert await reason_of(verifier, token) == "expired"


async def test_max_age_bounds_a_long_life() -> None:
    clock = Clock(time.time())
    async with (
        FaultyProvider() as provider,
        open_verifier(auth_settings([provider.issuer], max_age="10s"), clock=clock) as opened,
    ):
        verifier = await until_ready(opened)
        token = provider.issue("agent")
        await verifier.verify(token)
        clock.now += 9.9
        assert verifier.known(token)
        clock.now += 0.2
        assert verifier.known(token) is None


async def test_refusals_are_remembered_briefly_and_apart(checks: list[str]) -> None:
    clock = Clock(time.time())
    async with (
        FaultyProvider() as provider,
        open_verifier(auth_settings([provider.issuer], max_entries=2), clock=clock) as opened,
    ):
        verifier = await until_ready(opened)
        good = provider.issue("agent")
        await verifier.verify(good)
        forged = provider.issue("agent", scopes=["a"])[:-8] + "AAAAAAAA"
        for _ in range(3):
            assert await reason_of(verifier, forged) == "signature"
        assert len(checks) == 2
        clock.now += 5
        assert await reason_of(verifier, forged) == "signature"
        assert len(checks) == 3
        for number in range(3000):
            assert await reason_of(verifier, f"garbage-{number}") == "malformed"
        assert verifier.known(good)
        assert verifier.remembered() == (1, 1024)
        for _ in range(5):
            await verifier.verify(provider.issue("agent"))
        assert verifier.remembered() == (2, 1024)
        assert verifier.known(good) is None


async def test_an_early_token_is_good_as_soon_as_its_time_has_come() -> None:
    clock = Clock(time.time())
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer]), clock=clock) as opened:
        verifier = await until_ready(opened)
        token = provider.issue("agent", claims={"nbf": int(clock.now) + 32})
        assert await reason_of(verifier, token) == "not_yet_valid"
        clock.now += 3
        assert await verifier.verify(token)


async def test_the_issuers_own_list_of_algorithms_counts() -> None:
    keys = [jwk(private_key("ES512"), "ES512", "ec"), jwk(rsa_key("main"), "RS256", "rsa")]
    async with FaultyProvider() as provider:
        provider.faults["/jwks"] = answers(json.dumps({"keys": keys}))
        issuer = IssuerSettings(
            issuer=ISSUER, audiences=(AUDIENCE,), jwks_uri=provider.jwks_uri, algorithms=("ES512", "RS512")
        )
        async with open_verifier(AuthSettings(issuers=(issuer,))) as opened:
            verifier = await until_ready(opened)
            assert await verifier.verify(sign(claims(), algorithm="ES512", kid="ec"))
            assert await verifier.verify(sign(claims(), algorithm="RS512", kid="rsa"))
            assert await reason_of(verifier, sign(claims(), algorithm="RS256", kid="rsa")) == "algorithm"


async def test_each_issuer_has_its_own_rules() -> None:
    async with FaultyProvider() as provider:
        provider.faults["/jwks"] = answers(json.dumps({"keys": [jwk(rsa_key("main"), "RS256", "k1")]}))
        strict: dict[str, Any] = {"issuer": "https://strict.example", "trailing_slash": "any", "audiences": ("strict",)}
        strict |= {"token_type": "at+jwt", "max_token_life": "10m"}
        lax = {"issuer": ISSUER, "audiences": (AUDIENCE,), "scopes_from": ("roles",), "leeway": "60s"}
        issuers = [{**each, "jwks_uri": provider.jwks_uri} for each in (strict, lax)]
        async with open_verifier(AuthSettings.model_validate({"issuers": tuple(issuers)})) as opened:
            verifier = await until_ready(opened)
            await until(lambda: set(verifier.status().values()) == {"ready"})
            now = int(time.time())
            good = claims(iss="https://strict.example/", aud="strict", exp=now + 300)
            principal = await verifier.verify(sign(good))
            assert (principal.issuer, principal.scopes) == ("https://strict.example", frozenset("ab"))
            for typ in ("JWT", "application/okta-internal-at+jwt", ...):
                assert await reason_of(verifier, sign(good, header={"typ": typ})) == "token_type"
            assert await reason_of(verifier, sign({**good, "aud": AUDIENCE})) == "audience"
            assert await reason_of(verifier, sign({**good, "exp": now + 3600})) == "lifetime"
            other = await verifier.verify(sign(claims(roles=["r"], exp=now - 45), header={"typ": "JWT"}))
            assert (other.issuer, other.scopes) == (ISSUER, frozenset("r"))
            assert await reason_of(verifier, sign(claims(aud="strict"))) == "audience"


@pytest.mark.parametrize("token", ["", "anything", "a.b.c"])
async def test_mode_none_lets_everybody_in(token: str) -> None:
    async with open_verifier(AuthSettings(mode="none")) as verifier:
        principal = verifier.known(token)
        assert principal == await verifier.verify(token)
        assert principal is not None
        assert (principal.issuer, principal.subject) == ("none", "anonymous")
        assert principal.grants(frozenset({"whatever"}))
        assert verifier.is_ready
        assert verifier.status() == {}


@pytest.mark.parametrize(
    ("issuers", "jwks_uri", "key", "message"),
    [
        (["https://a.example", "https://a.example"], None, ("auth", "issuers", 1, "issuer"), "twice"),
        (["http://a.example"], None, ("auth", "issuers", 0, "issuer"), "https"),
        (["my-issuer"], None, ("auth", "issuers", 0, "issuer"), "https"),
        (["https://user:pass@a.example"], None, ("auth", "issuers", 0, "issuer"), "https"),
        (["https://a.example"], "http://a.example/jwks", ("auth", "issuers", 0, "jwks_uri"), "https"),
        (["https://a.example"], "file:///etc/passwd", ("auth", "issuers", 0, "jwks_uri"), "https"),
    ],
)
async def test_settings_that_cannot_work(issuers: list[str], jwks_uri: str | None, key: Any, message: str) -> None:
    settings = auth_settings(issuers, jwks_uri=jwks_uri)
    first = problems(settings)[0]
    assert first.path == key
    assert message in first.message
    with pytest.raises(ConfigError):
        async with open_verifier(settings):
            pass


def test_settings_that_work() -> None:
    assert problems(auth_settings(["https://a.example", "http://127.0.0.1:1", "http://[::1]:1/x"])) == ()
    assert problems(auth_settings(["any name"], jwks_uri="https://a.example/jwks")) == ()
    assert problems(AuthSettings(mode="none")) == ()


async def test_who_leaves_while_keys_are_fetched_does_not_hurt_the_others(checks: list[str]) -> None:
    async with FaultyProvider() as provider:
        provider.flowing.clear()
        async with open_verifier(auth_settings([provider.issuer])) as verifier:
            token = provider.issue("agent")
            waiting = [asyncio.create_task(verifier.verify(token)) for _ in range(20)]
            await provider.asked.wait()
            for task in waiting[:10]:
                task.cancel()
            await asyncio.sleep(0)
            provider.flowing.set()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results[:10])
            assert all(result is results[10] for result in results[10:])
            assert verifier.known(token) is results[10]
            assert checks == ["RS256"]


async def test_what_happened_is_counted() -> None:
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer])) as opened:
        verifier = await until_ready(opened)
        token = provider.issue("agent")
        await verifier.verify(token)
        for _ in range(3):
            verifier.known(token)
        await verifier.verify(token)
        for _ in range(2):
            assert await reason_of(verifier, "garbage") == "malformed"
        assert await reason_of(verifier, "x" * 20_000) == "too_large"
        counters = verifier.counters
        assert (counters.hits, counters.misses) == (4, 3)
        assert counters.refusals == {"malformed": 2, "too_large": 1}
        assert (counters.introspections, counters.shared_hits, counters.unavailable) == (0, 0, 0)


async def test_a_token_counts_while_it_is_valid_whatever_the_call_takes() -> None:
    clock = Clock(time.time())
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer]), clock=clock) as opened:
        verifier = await until_ready(opened)
        # Two seconds of life are left, and a call may take sixty: it is valid now, and that counts.
        token = provider.issue("agent", claims={"exp": int(clock.now) + 2})
        principal = await verifier.verify(token)
        assert verifier.known(token) is principal
        clock.now += 2
        assert verifier.known(token) is None
        clock.now += 30
        assert await reason_of(verifier, token) == "expired"


async def test_a_forged_token_whose_key_is_found_to_be_gone_is_told_that() -> None:
    async with FaultyProvider() as provider, open_verifier(auth_settings([provider.issuer])) as opened:
        verifier = await until_ready(opened)
        forged = provider.issue("agent")[:-8] + "AAAAAAAA"
        provider.rotate(keep_old=False)
        assert await reason_of(verifier, forged) == "unknown_key"
