"""Database tokens of OCI IAM from an endpoint that judges signatures: early refresh, keys, refusals."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.net.oauth import TokenError
from gateway.net.oci import ApiKey, DatabaseTokens
from gateway.net.tls import Sighting
from tests.auth.provider import Clock
from tests.servers.certificates import Authority
from tests.servers.oci import SCOPE, DataPlane, pem, running_data_plane


@pytest_asyncio.fixture
async def plane() -> AsyncIterator[DataPlane]:
    async with running_data_plane() as running:
        yield running


def tokens(plane: DataPlane, text: str = "", clock: Clock | None = None) -> DatabaseTokens:
    return DatabaseTokens(plane.url, ApiKey(*plane.identity, text or pem(plane.key)), SCOPE, clock=clock or Clock(0.0))


async def test_a_token_is_replaced_a_minute_before_its_end_and_has_a_key_of_its_own(plane: DataPlane) -> None:
    clock = Clock(1000.0)
    source = tokens(plane, clock=clock)
    first = await source.token()
    clock.now += 3600 - 61
    assert await source.token() == first
    clock.now += 2
    second = await source.token()
    assert plane.issued == [first.token, second.token]
    assert first.key != second.key
    assert serialization.load_pem_private_key(first.key.encode(), None)
    assert first.key not in repr(first) + repr(source)


async def test_a_token_serves_to_its_end_while_nobody_gives_another(plane: DataPlane) -> None:
    clock = Clock(0.0)
    source = tokens(plane, clock=clock)
    first = await source.token()
    plane.fault = lambda: web.Response(status=503)
    clock.now = 3550.0
    assert await source.token() == first
    clock.now = 3601.0
    with pytest.raises(TokenError, match="gave no token: HTTP 503"):
        await source.token()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (pem(rsa.generate_private_key(65537, 2048)), "gave no token: the signature does not verify"),
        ("no key", "no private key in PEM"),
        (
            ec.generate_private_key(ec.SECP256R1())
            .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            .decode(),
            "no RSA key",
        ),
        (
            rsa.generate_private_key(65537, 2048)
            .private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"x"),
            )
            .decode(),
            "without a passphrase",
        ),
    ],
    ids=["another's", "none", "not RSA", "locked"],
)
async def test_a_key_that_will_not_do_is_named_and_not_shown(plane: DataPlane, text: str, reason: str) -> None:
    with pytest.raises(TokenError) as caught:
        await tokens(plane, text).token()
    assert reason in caught.value.message
    assert text.splitlines()[-1] not in caught.value.message or text == "no key"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"token": "opaque"}, "no JWT with an end"),
        ({"token": 7}, "HTTP 200"),
        ([], "HTTP 200"),
    ],
)
async def test_an_answer_without_a_token_is_none(plane: DataPlane, answer: object, reason: str) -> None:
    plane.fault = lambda: web.json_response(answer)
    with pytest.raises(TokenError, match=reason):
        await tokens(plane).token()


async def test_a_token_that_has_ended_points_at_the_clock(plane: DataPlane) -> None:
    plane.life = -1.0
    with pytest.raises(TokenError, match="clock"):
        await tokens(plane).token()


async def test_what_the_endpoint_shows_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, sighting = Authority(tmp_path), Sighting()
    # The system's authorities, which aiohttp reads when it is imported.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context(cafile=authority.path))
    pair = authority.issue("oci.test", address="127.0.0.1", days=20)
    async with running_data_plane(pair.context()) as plane:
        key = ApiKey(*plane.identity, pem(plane.key))
        await DatabaseTokens(plane.url, key, SCOPE, sighting=sighting).token()
    assert sighting.expires_at == pytest.approx(time.time() + 20 * 86_400, abs=600)
