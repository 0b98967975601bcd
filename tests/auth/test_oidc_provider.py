"""The gateway against a certified provider: its JWTs, its opaque tokens, its rotations and its absence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

from gateway.auth.base import Verifier
from gateway.auth.jwks import KeyPolicy
from gateway.auth.verifier import open_verifier
from gateway.config.auth import AuthSettings, IssuerSettings
from gateway.config.introspection import IntrospectionSettings
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from tests.auth.provider import Clock, until_ready
from tests.servers.oidc import JWT_RESOURCE, OPAQUE_RESOURCE, OTHER_RESOURCE, OidcServer
from tests.world import CONFIGURATION, open_world

SCOPES = "customers:read orders:read"


async def post(server: OidcServer, path: str, form: dict[str, str]) -> Any:
    auth = aiohttp.encode_basic_auth("agent", server.agent_secret)
    async with (
        aiohttp.ClientSession(headers={"Authorization": auth}) as http,
        http.post(server.issuer + path, data=form) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json() if response.content_type == "application/json" else None


async def obtain(server: OidcServer, resource: str, scope: str = SCOPES) -> str:
    form = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
    return str((await post(server, "/token", form))["access_token"])


async def revoke(server: OidcServer, token: str) -> None:
    await post(server, "/token/revocation", {"token": token})


def settings(server: OidcServer, **introspection: Any) -> AuthSettings:
    values = {"client_id": "gateway", "client_secret": server.gateway_secret, **introspection}
    asked = IntrospectionSettings.model_validate(values)
    audiences = (JWT_RESOURCE, OPAQUE_RESOURCE)
    return AuthSettings(issuers=(IssuerSettings(issuer=server.issuer, audiences=audiences, introspection=asked),))


@pytest_asyncio.fixture
async def verifier(oidc: OidcServer) -> AsyncIterator[Verifier]:
    async with open_verifier(settings(oidc)) as opened:
        yield await until_ready(opened)


async def reason_of(verifier: Verifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    return caught.value.reason


async def test_a_jwt_is_verified_without_a_question(oidc: OidcServer, verifier: Verifier) -> None:
    token = await obtain(oidc, JWT_RESOURCE)
    assert token.count(".") == 2
    principal = await verifier.verify(token)
    assert (principal.issuer, principal.subject, principal.client_id) == (oidc.issuer, "agent", "agent")
    assert principal.scopes == frozenset(SCOPES.split())
    assert verifier.counters.introspections == 0


async def test_an_opaque_token_is_asked_about_once(oidc: OidcServer, verifier: Verifier) -> None:
    token = await obtain(oidc, OPAQUE_RESOURCE)
    assert "." not in token
    principals = await asyncio.gather(*(verifier.verify(token) for _ in range(50)))
    principal = principals[0]
    assert all(each is principal for each in principals)
    assert (principal.issuer, principal.subject, principal.client_id) == (oidc.issuer, "agent", "agent")
    assert principal.scopes == frozenset(SCOPES.split())
    assert principal.claims["aud"] == OPAQUE_RESOURCE
    assert verifier.known(token) is principal
    assert verifier.counters.introspections == 1


async def test_the_gateway_may_sign_instead_of_telling_a_secret(oidc: OidcServer) -> None:
    own = {"client_id": "gateway-key", "client_secret": None, "private_key": oidc.private_key, "key_id": "gw"}
    async with open_verifier(settings(oidc, **own)) as opened:
        await until_ready(opened)
        assert (await opened.verify(await obtain(oidc, OPAQUE_RESOURCE))).subject == "agent"


async def test_refused_credentials_of_the_gateway_are_not_the_tokens_fault(oidc: OidcServer) -> None:
    async with open_verifier(settings(oidc, client_secret="wrong")) as opened:
        await until_ready(opened)
        token = await obtain(oidc, OPAQUE_RESOURCE)
        with pytest.raises(IdentityProviderUnavailable) as caught:
            await opened.verify(token)
        assert "401" in caught.value.detail
        assert "401" in opened.status()[oidc.issuer]
        assert opened.counters.introspections == 1
        with pytest.raises(IdentityProviderUnavailable):
            await opened.verify(token)


async def test_an_opaque_token_for_somebody_else_is_refused(oidc: OidcServer, verifier: Verifier) -> None:
    assert await reason_of(verifier, await obtain(oidc, OTHER_RESOURCE)) == "audience"


@pytest.mark.parametrize("token", ["garbage", "a.b", "a.b.c.d.e", "eyJhbGciOiJub25lIn0", "x" * 10_000])
async def test_what_the_provider_does_not_know_is_refused(verifier: Verifier, token: str) -> None:
    for _ in range(3):
        assert await reason_of(verifier, token) == "inactive"
    assert verifier.counters.introspections == 1
    assert verifier.counters.refusals["inactive"] == 3


async def test_a_revoked_token_is_refused_within_the_age_of_the_answer(oidc: OidcServer) -> None:
    clock = Clock(time.time())
    async with open_verifier(settings(oidc, max_age="30s"), clock=clock) as opened:
        await until_ready(opened)
        token = await obtain(oidc, OPAQUE_RESOURCE)
        await opened.verify(token)
        await revoke(oidc, token)
        assert opened.known(token)
        clock.now += 30.0
        assert opened.known(token) is None
        assert await reason_of(opened, token) == "inactive"


async def test_no_age_asks_each_time(oidc: OidcServer) -> None:
    async with open_verifier(settings(oidc, max_age="0s")) as opened:
        await until_ready(opened)
        token = await obtain(oidc, OPAQUE_RESOURCE)
        await opened.verify(token)
        await opened.verify(token)
        assert opened.known(token) is None
        await revoke(oidc, token)
        assert await reason_of(opened, token) == "inactive"
        assert opened.counters.introspections == 3


async def test_rotation_and_emergency_rotation(own_oidc: OidcServer) -> None:
    async with open_verifier(settings(own_oidc), policy=KeyPolicy(cool_down=0.0)) as opened:
        await until_ready(opened)
        old = await obtain(own_oidc, JWT_RESOURCE)
        await opened.verify(old)
        own_oidc.rotate()
        new = await obtain(own_oidc, JWT_RESOURCE)
        assert (await opened.verify(new)).subject == "agent"
        assert opened.known(old)
        own_oidc.rotate(keep_old=False)
        assert (await opened.verify(await obtain(own_oidc, JWT_RESOURCE))).subject == "agent"
        assert opened.known(old) is opened.known(new) is None
        assert await reason_of(opened, old) == "unknown_key"


async def test_killed_and_back(own_oidc: OidcServer) -> None:
    async with open_verifier(settings(own_oidc)) as opened:
        await until_ready(opened)
        signed, opaque = await obtain(own_oidc, JWT_RESOURCE), await obtain(own_oidc, OPAQUE_RESOURCE)
        known = await obtain(own_oidc, OPAQUE_RESOURCE)
        await opened.verify(known)
        own_oidc.kill()
        # Keys are here, and so is one answer; the other token cannot be judged, and nobody is let in on trust.
        assert (await opened.verify(signed)).subject == "agent"
        assert opened.known(known)
        for _ in range(20):
            with pytest.raises(IdentityProviderUnavailable):
                await opened.verify(opaque)
        assert opened.counters.introspections >= 1
        own_oidc.start()
        # It forgot its opaque tokens: that is a refusal now, and no outage.
        fresh = await obtain(own_oidc, OPAQUE_RESOURCE)

        async def is_back() -> bool:
            try:
                return (await opened.verify(fresh)).subject == "agent"
            except IdentityProviderUnavailable:
                return False

        async with asyncio.timeout(10):
            while not await is_back():  # noqa: ASYNC110 - asking is what brings it about
                await asyncio.sleep(0.05)
        assert await reason_of(opened, opaque) == "inactive"


async def test_over_http(oidc: OidcServer, tmp_path: Path) -> None:
    text = CONFIGURATION.replace("issuer: ${env:ISSUER}", "issuer: ${env:OIDC}").replace(
        'audiences: ["https://gateway.test/mcp"]',
        f'audiences: ["{JWT_RESOURCE}", "{OPAQUE_RESOURCE}"]\n'
        '      introspection: {client_id: gateway, client_secret: "${env:SECRET}"}',
    )
    variables = {"OIDC": oidc.issuer, "SECRET": oidc.gateway_secret}
    async with open_world(tmp_path, text, variables) as world:
        for resource in (JWT_RESOURCE, OPAQUE_RESOURCE):
            good = {"Authorization": f"Bearer {await obtain(oidc, resource)}"}
            body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
            body["params"] = {"name": "customer_by_id", "arguments": {"id": 1}}
            reply = await world.send(body, client=None, headers=good)
            assert reply.status == 200, reply.body
            assert reply.result["structuredContent"]["row_count"] == 1
            body["params"] = {"name": "public_note", "arguments": {}}
            assert (await world.send(body, client=None, headers=good)).status == 403
        revoked = await obtain(oidc, OPAQUE_RESOURCE)
        await revoke(oidc, revoked)
        for token in (revoked, "nonsense", await obtain(oidc, OTHER_RESOURCE)):
            reply = await world.send(body, client=None, headers={"Authorization": f"Bearer {token}"})
            assert reply.status == 401
            assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


def test_nothing_is_told_of_secrets(oidc: OidcServer) -> None:
    own = settings(oidc, private_key=oidc.private_key)
    assert oidc.gateway_secret not in repr(own)
    assert isinstance(own.issuers[0].introspection, IntrospectionSettings)
    assert isinstance(own.issuers[0].introspection.private_key, SecretStr)
    assert "PRIVATE" not in own.model_dump_json()
