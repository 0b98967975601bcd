"""The development provider as OAuth clients and verifiers meet it."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio

from gateway.demo.identity import IdentityProvider

AUDIENCE = "http://127.0.0.1:8080/mcp"
GRANT = {"grant_type": "client_credentials"}
POST = {"client_id": "agent", "client_secret": "s3cret:+ %"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


BASIC = basic("agent", "s3cret%3A%2B+%25")


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider({"agent": ("s3cret:+ %", ("a", "b")), "other": ("x", ["c"])}, AUDIENCE) as opened:
        yield opened


async def ask(
    provider: IdentityProvider, form: Any, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(provider.token_url, data=form, headers=headers) as response,
    ):
        return response.status, await response.json(), response.headers


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.parametrize(("form", "headers"), [(GRANT | POST, None), (GRANT, BASIC)])
async def test_client_credentials(provider: IdentityProvider, form: Any, headers: dict[str, str] | None) -> None:
    status, answer, sent = await ask(provider, form, headers)
    assert status == 200
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "a b")
    assert sent["Cache-Control"] == "no-store"
    assert "development only" in sent["Server"]
    (key,) = (await get(provider.jwks_uri))["keys"]
    header = jwt.get_unverified_header(answer["access_token"])
    assert header == {"alg": "RS256", "typ": "at+jwt", "kid": key["kid"]}
    claims = jwt.decode(answer["access_token"], jwt.PyJWK(key), ["RS256"], audience=AUDIENCE, issuer=provider.issuer)
    assert claims.keys() == {"iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti"}
    assert claims["sub"] == claims["client_id"] == "agent"
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 5


async def test_a_client_may_ask_for_less(provider: IdentityProvider) -> None:
    for target in ("resource", "audience"):
        status, answer, _ = await ask(provider, GRANT | POST | {"scope": "b", target: AUDIENCE})
        assert (status, answer["scope"]) == (200, "b")


@pytest.mark.parametrize(
    ("form", "headers", "status", "error"),
    [
        (POST, None, 400, "invalid_request"),
        (GRANT, None, 401, "invalid_client"),
        (GRANT | POST | {"client_secret": "wrong"}, None, 401, "invalid_client"),
        (GRANT | POST | {"client_id": "nobody"}, None, 401, "invalid_client"),
        (GRANT, basic("agent", "wrong"), 401, "invalid_client"),
        (GRANT, {"Authorization": "Basic ???"}, 401, "invalid_client"),
        (GRANT, {"Authorization": "Basic YWdlbnQ="}, 401, "invalid_client"),
        (GRANT, {"Authorization": BASIC["Authorization"].replace("Basic", "Bearer")}, 401, "invalid_client"),
        (GRANT | POST, BASIC, 400, "invalid_request"),
        (POST | {"grant_type": "password"}, None, 400, "unsupported_grant_type"),
        (GRANT | POST | {"scope": "a c"}, None, 400, "invalid_scope"),
        (GRANT | POST | {"resource": "https://elsewhere.example/"}, None, 400, "invalid_target"),
        ([*GRANT.items(), *POST.items(), ("scope", "a"), ("scope", "b")], None, 400, "invalid_request"),
    ],
)
async def test_errors_of_rfc_6749(
    provider: IdentityProvider, form: Any, headers: dict[str, str] | None, status: int, error: str
) -> None:
    got, answer, sent = await ask(provider, form, headers)
    assert (got, answer["error"]) == (status, error)
    assert answer["error_description"]
    assert ("WWW-Authenticate" in sent) == (status == 401)
    assert sent["Cache-Control"] == "no-store"


async def test_only_forms_are_read(provider: IdentityProvider) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(provider.token_url, json=GRANT | POST) as response:
            assert (response.status, (await response.json())["error"]) == (400, "invalid_request")
        async with session.post(provider.token_url, data={"grant_type": "x" * 20_000}) as response:
            assert response.status == 413
        async with session.get(provider.token_url) as response:
            assert response.status == 405


async def test_discovery(provider: IdentityProvider) -> None:
    for name in ("openid-configuration", "oauth-authorization-server"):
        document = await get(f"{provider.issuer}/.well-known/{name}")
        assert document["issuer"] == provider.issuer
        assert document["jwks_uri"] == provider.jwks_uri
        assert document["token_endpoint"] == provider.token_url
        assert document["scopes_supported"] == ["a", "b", "c"]


async def test_rotation(provider: IdentityProvider) -> None:
    async def published() -> list[str]:
        return [key["kid"] for key in (await get(provider.jwks_uri))["keys"]]

    first = provider.current_kid
    provider.rotate()
    second = provider.current_kid
    assert await published() == [second, first]
    assert jwt.get_unverified_header(provider.issue("agent"))["kid"] == second
    provider.rotate(keep_old=False)
    assert await published() == [provider.current_kid]


async def test_only_public_halves_are_published(provider: IdentityProvider) -> None:
    for key in (await get(provider.jwks_uri))["keys"]:
        assert key.keys() == {"kty", "use", "alg", "kid", "n", "e"}


async def test_issued_tokens_can_be_shaped(provider: IdentityProvider) -> None:
    token = provider.issue("agent", scopes=["a"], lifetime=-5, claims={"tenant": "t1"})
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["scope"], claims["tenant"]) == ("a", "t1")
    assert claims["exp"] < time.time()
    with pytest.raises(KeyError):
        provider.issue("nobody")


async def test_the_port_is_free_again_and_a_taken_one_is_an_error(provider: IdentityProvider) -> None:
    port = int(provider.issuer.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="address already in use"):
        async with IdentityProvider({}, AUDIENCE, port):
            pass
