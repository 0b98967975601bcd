"""Keys from a real provider: rotation, outages, garbage; and how often it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.auth.jwks import IssuerKeys, KeyPolicy, authorization_server_url, openid_configuration_url
from gateway.config.auth import IssuerSettings
from gateway.config.issuers import resolve
from gateway.net.http import open_session
from tests.auth.provider import Answer, Clock, FaultyProvider, answers, until
from tests.auth.tokens import AUDIENCE, jwk, private_key, rsa_key

DISCOVERY = "/.well-known/openid-configuration"
METADATA = "/.well-known/oauth-authorization-server"
GOOD = jwk(rsa_key("main"), "RS256", "k1")


def key_set(*keys: Any) -> Answer:
    return answers(json.dumps({"keys": keys}))


@asynccontextmanager
async def issuer_keys(
    provider: FaultyProvider, *, jwks_uri: str | None = None, **policy: Any
) -> AsyncIterator[tuple[IssuerKeys, Clock]]:
    settings = resolve(IssuerSettings(issuer=provider.issuer, audiences=(AUDIENCE,), jwks_uri=jwks_uri))
    clock = Clock(1000.0)
    async with open_session() as session:
        keys = IssuerKeys(settings, session, KeyPolicy(**policy), clock)
        try:
            yield keys, clock
        finally:
            await keys.aclose()


async def test_discovery_then_keys() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        assert keys.find(None, "RS256") == ()
        assert (keys.was_loaded, keys.has_keys, keys.status()) == (False, False, "no keys were loaded yet")
        await keys.refresh()
        (key,) = keys.find(None, "RS256")
        assert keys.find(key.kid, "RS256") == (key,)
        assert keys.holds(key.thumbprint)
        assert keys.status() == "ready"
        assert provider.requests == {DISCOVERY: 1, "/jwks": 1}
        await keys.refresh()
        assert provider.requests == {DISCOVERY: 1, "/jwks": 2}


async def test_rfc_8414_is_the_second_try() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        provider.faults[DISCOVERY] = answers("<h1>no</h1>", 404, "text/html")
        await keys.refresh()
        assert keys.status() == "ready"
        assert provider.requests == {DISCOVERY: 1, METADATA: 1, "/jwks": 1}


async def test_an_explicit_location_needs_no_discovery() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider, jwks_uri=provider.jwks_uri) as (keys, _):
        await keys.refresh()
        await keys.obtain("nobody", "RS256")
        assert provider.requests == {"/jwks": 2}


@pytest.mark.parametrize(
    ("document", "trouble"),
    [
        ({"issuer": "https://thief.example", "jwks_uri": "{jwks}"}, "names the issuer"),
        ({"issuer": "{issuer}/", "jwks_uri": "{jwks}"}, "names the issuer"),
        ({"jwks_uri": "{jwks}"}, "names the issuer"),
        ({"issuer": "{issuer}"}, "no jwks_uri"),
        ({"issuer": "{issuer}", "jwks_uri": 5}, "no jwks_uri"),
        ({"issuer": "{issuer}", "jwks_uri": "http://idp.example/keys"}, "https is required"),
        ({"issuer": "{issuer}", "jwks_uri": "file:///etc/passwd"}, "https is required"),
        ([], "not an object"),
    ],
)
async def test_a_discovery_document_is_not_believed(document: Any, trouble: str) -> None:
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        text = json.dumps(document).replace("{issuer}", provider.issuer).replace("{jwks}", provider.jwks_uri)
        provider.faults[DISCOVERY] = answers(text)
        await keys.refresh()
        assert not keys.was_loaded
        assert trouble in keys.status()
        assert provider.requests["/jwks"] == 0


async def test_a_foreign_document_may_not_point_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def document(*_: Any, **__: Any) -> Any:
        return {"issuer": "https://idp.example", "jwks_uri": "http://127.0.0.1:1/jwks"}

    monkeypatch.setattr("gateway.auth.jwks.get_json", document)
    settings = resolve(IssuerSettings(issuer="https://idp.example", audiences=(AUDIENCE,)))
    async with open_session() as session:
        keys = IssuerKeys(settings, session, KeyPolicy())
        await keys.refresh()
        assert "this machine" in keys.status()


FAULTS = {
    "500": answers("oops", 500),
    "HTML": answers("<html>Sign in</html>", content_type="text/html"),
    "not JSON": answers("{"),
    "deep": answers("[" * 100_000),
    "empty": answers(""),
    "no keys": answers("{}"),
    "a list": answers("[]"),
    "an empty set": key_set(),
    "only unusable keys": key_set({"kty": "oct", "k": "c2VjcmV0"}, jwk(rsa_key("small", 1024), "RS256", "small"), 7),
    "a redirect": answers("", 302, Location="/elsewhere"),
    "too large": answers(json.dumps({"keys": [GOOD], "filler": "x" * (1 << 20)})),
    "204": lambda: web.Response(status=204),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_garbage_never_replaces_good_keys(name: str) -> None:
    async with FaultyProvider() as provider, issuer_keys(provider, max_stale=3600) as (keys, clock):
        await keys.refresh()
        before = keys.find(None, "RS256")
        provider.break_all(FAULTS[name])
        clock.now += 600
        await keys.refresh()
        assert keys.find(None, "RS256") == before
        assert keys.status().startswith("using the keys of 600 s ago: ")
        assert "unexpected" not in keys.status()
        assert provider.requests["/elsewhere"] == 0
        clock.now += 3000
        assert keys.find(None, "RS256") == before
        clock.now += 0.1
        assert keys.find(None, "RS256") == ()
        assert not keys.holds(before[0].thumbprint)
        assert (keys.was_loaded, keys.has_keys) == (True, False)
        provider.faults.clear()
        await keys.refresh()
        assert keys.find(None, "RS256") == before
        assert keys.status() == "ready"


async def test_a_provider_that_stalls_is_given_up() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider, timeout=0.05) as (keys, _):
        provider.flowing.clear()
        await keys.refresh()
        assert "within 0.05 s" in keys.status()
        provider.flowing.set()
        await keys.refresh()
        assert keys.status() == "ready"


async def test_nobody_listens() -> None:
    async with FaultyProvider() as provider:
        pass
    async with issuer_keys(provider) as (keys, _):
        await keys.refresh()
        assert "ClientConnectorError" in keys.status()


async def test_a_mixed_set_gives_its_usable_keys() -> None:
    other = jwk(rsa_key("other"), "RS256", "k1")
    entries = [None, {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}, GOOD | {"d": "AQAB", "kid": "private"}, GOOD, other]
    nameless = ed25519.Ed25519PrivateKey.generate()
    entries += [jwk(private_key("EdDSA"), "EdDSA"), jwk(nameless, "EdDSA"), jwk(private_key("ES256"), "ES256", "ec")]
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        provider.faults["/jwks"] = key_set(*entries)
        await keys.refresh()
        assert keys.status() == "ready"
        both = keys.find("k1", "RS256")
        assert len(both) == 2
        assert keys.find(None, "RS256") == both
        assert keys.find("private", "RS256") == ()
        assert len(keys.find("ec", "ES256")) == 1
        assert len(keys.find(None, "EdDSA")) == 2


async def test_a_huge_set_is_bounded() -> None:
    entries = [GOOD | {"kid": f"k{number}"} for number in range(500)]
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        provider.faults["/jwks"] = key_set(*entries)
        await keys.refresh()
        assert len(keys.find("k99", "RS256")) == 1
        assert keys.find("k100", "RS256") == ()
        # A token without a name is tried with a few keys only.
        assert len(keys.find(None, "RS256")) == 4


async def test_a_new_key_is_found_when_it_is_asked_for() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        await keys.refresh()
        (old,) = keys.find(None, "RS256")
        provider.rotate()
        new = provider.current_kid
        assert keys.find(new, "RS256") == ()
        assert len(await keys.obtain(new, "RS256")) == 1
        assert keys.holds(old.thumbprint)
        provider.rotate(keep_old=False)
        await keys.refresh()
        assert not keys.holds(old.thumbprint)
        assert keys.find(new, "RS256") == ()


async def test_unknown_keys_cause_one_fetch_in_a_cool_down_failures_included() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider, cool_down=30) as (keys, clock):
        await keys.refresh()
        provider.requests.clear()
        for number in range(50):
            assert await keys.obtain(f"unknown-{number}", "RS256") == ()
        assert provider.requests == {DISCOVERY: 1, "/jwks": 1}
        provider.break_all(answers("", 500))
        clock.now += 30
        await asyncio.gather(*(keys.obtain(f"unknown-{number}", "RS256") for number in range(50)))
        assert provider.requests == {DISCOVERY: 2, METADATA: 1, "/jwks": 1}
        provider.faults.clear()
        provider.rotate()
        clock.now += 29.9
        assert await keys.obtain(provider.current_kid, "RS256") == ()
        clock.now += 0.1
        assert len(await keys.obtain(provider.current_kid, "RS256")) == 1


async def test_everybody_waits_for_one_fetch() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        provider.flowing.clear()
        waiting = [asyncio.create_task(keys.obtain(provider.current_kid, "RS256")) for _ in range(100)]
        await provider.asked.wait()
        # One of them goes away: the others keep their fetch.
        waiting[0].cancel()
        provider.flowing.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert all(isinstance(keys_found, tuple) and len(keys_found) == 1 for keys_found in found[1:])
        assert provider.requests == {DISCOVERY: 1, "/jwks": 1}


async def test_a_fetch_that_began_too_early_is_followed_by_another() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider, jwks_uri=provider.jwks_uri) as (keys, _):
        old = answers(json.dumps({"keys": [GOOD]}))
        provider.faults["/jwks"] = old
        provider.flowing.clear()
        early = asyncio.create_task(keys.refresh())
        await provider.asked.wait()
        waiting = asyncio.create_task(keys.obtain(provider.current_kid, "RS256"))
        await asyncio.sleep(0)
        provider.flowing.set()
        await early
        provider.faults.clear()
        assert len(await waiting) == 1
        assert provider.requests["/jwks"] == 2


async def test_the_background_refresh_recovers_by_itself() -> None:
    async with (
        FaultyProvider() as provider,
        issuer_keys(provider, refresh=0.02, first_retry=0.01, last_retry=0.02) as (keys, _),
    ):
        provider.break_all(answers("", 503))
        task = asyncio.create_task(keys.keep_fresh())
        try:
            await until(lambda: provider.requests[DISCOVERY] >= 3)
            assert not keys.was_loaded
            provider.faults.clear()
            await until(lambda: keys.status() == "ready")
            provider.rotate()
            await until(lambda: len(keys.find(provider.current_kid, "RS256")) == 1)
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_pauses_grow_with_failures_and_are_capped() -> None:
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        provider.break_all(answers("", 500))
        pauses = []
        for _ in range(8):
            await keys.refresh()
            pauses.append(keys.pause())
        for pause, expected in zip(pauses, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
            assert 0.9 * expected <= pause <= 1.1 * expected
        provider.faults.clear()
        await keys.refresh()
        assert 270 <= keys.pause() <= 330
        provider.break_all(answers("", 500))
        for _ in range(12):
            await keys.refresh()
        assert 270 <= keys.pause() <= 330


async def test_the_log_tells_changes_and_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gateway.auth")
    async with FaultyProvider() as provider, issuer_keys(provider) as (keys, _):
        for _ in range(3):
            await keys.refresh()
        provider.rotate(keep_old=False)
        await keys.refresh()
        provider.faults["/jwks"] = answers("", 500)
        for _ in range(3):
            await keys.refresh()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert "1 usable key(s) of 1 published, 1 of them new, 0 gone" in said[0]
    assert "1 usable key(s) of 1 published, 1 of them new, 1 gone" in said[1]
    assert "no fresh keys" in said[2]


async def test_closing_stops_a_fetch_in_the_air() -> None:
    async with FaultyProvider() as provider:
        async with issuer_keys(provider) as (keys, _):
            provider.flowing.clear()
            waiting = asyncio.create_task(keys.refresh())
            await provider.asked.wait()
        await asyncio.wait([waiting])
        assert waiting.cancelled()


@pytest.mark.parametrize(
    ("issuer", "first", "second"),
    [
        ("https://a.example", "https://a.example/.well-known/{o}", "https://a.example/.well-known/{r}"),
        ("https://a.example/", "https://a.example/.well-known/{o}", "https://a.example/.well-known/{r}"),
        (
            "https://a.example/realms/r",
            "https://a.example/realms/r/.well-known/{o}",
            "https://a.example/.well-known/{r}/realms/r",
        ),
        (
            "https://a.example/t/v2.0/",
            "https://a.example/t/v2.0/.well-known/{o}",
            "https://a.example/.well-known/{r}/t/v2.0",
        ),
    ],
)
def test_where_metadata_is(issuer: str, first: str, second: str) -> None:
    names = {"o": "openid-configuration", "r": "oauth-authorization-server"}
    assert openid_configuration_url(issuer) == first.format(**names)
    assert authorization_server_url(issuer) == second.format(**names)
