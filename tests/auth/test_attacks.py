"""No attack opens the door, holds the event loop, reaches a log or leaves another exception than it may."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gateway.auth.verifier import TokenVerifier
from gateway.errors import IdentityProviderUnavailable, Unauthenticated
from tests.auth.attacks import ATTACKS, Attack, fresh, signed
from tests.auth.conftest import KEYS
from tests.auth.provider import FaultyProvider, answers
from tests.auth.tokens import AUDIENCE, ISSUER, sign
from tests.world import AUDIENCE as WORLD_AUDIENCE
from tests.world import CONFIGURATION, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVERYTHING = pytest.mark.parametrize("log", ["DEBUG"], indirect=True)
"""All that the gateway writes, at the most talkative level."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway that trusts the issuer of the forged tokens, whose keys come from a real provider."""
    issuer = f"issuer: {ISSUER}\n      jwks_uri: ${{env:KEYS}}"
    text = CONFIGURATION.replace("issuer: ${env:ISSUER}", issuer).replace(WORLD_AUDIENCE, AUDIENCE)
    async with FaultyProvider() as provider:
        provider.faults["/jwks"] = answers(json.dumps({"keys": KEYS}))
        async with open_world(tmp_path_factory.mktemp("attacks"), text, {"KEYS": provider.jwks_uri}) as world:
            yield world


def parts_of(token: str) -> list[str]:
    """What of a token nobody may find again."""
    return [part[:40] for part in token.split(".") if len(part) > 20]


async def knock(world: World, *headers: tuple[str, str], url: URL | None = None) -> tuple[int, str, str]:
    """Status, challenge and body of a call with these headers."""
    body = envelope("tools/list")
    reply = await world.send(body, client=None, headers=[*routing(body).items(), *headers], url=url)
    return reply.status, reply.headers.get("WWW-Authenticate", ""), reply.body.decode()


async def test_a_good_token_opens_the_door(world: World) -> None:
    assert (await knock(world, ("Authorization", f"Bearer {signed()}")))[0] == 200


@EVERYTHING
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
async def test_every_attack_is_refused_at_the_door(world: World, attack: Attack, log: io.StringIO) -> None:
    token = attack.make()
    status, challenge, body = await knock(world, ("Authorization", f"Bearer {token}"))
    assert status == 401
    assert challenge.startswith('Bearer error="invalid_token", ')
    assert f'resource_metadata="{world.base}/.well-known/' in challenge
    logged = log.getvalue()
    assert f"unauthenticated:{attack.reason}" in logged
    assert "Traceback" not in logged
    assert not [part for part in parts_of(token) if part in logged + challenge + body]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
async def test_no_attack_holds_the_loop_for_5_ms(verifier: TokenVerifier, attack: Attack) -> None:
    spent = []
    for _ in range(5):
        token = attack.make()
        started = time.thread_time()
        with pytest.raises(Unauthenticated) as caught:
            await verifier.verify(token)
        spent.append(time.thread_time() - started)
        assert caught.value.reason == attack.reason
        if spent[-1] < 0.005:
            return
    assert min(spent) < 0.005


@EVERYTHING
async def test_a_token_in_the_query_is_refused(world: World, log: io.StringIO) -> None:
    good = signed()
    assert (await knock(world, ("Authorization", f"Bearer {good}")))[0] == 200
    for name in ("access_token", "Access_Token", "access%5Ftoken"):
        url = URL(f"{world.gateway.url}?{name}={good}", encoded=True)
        assert (await knock(world, url=url))[0] == 401
        assert (await knock(world, ("Authorization", f"Bearer {good}"), url=url))[0] == 401
    assert not [part for part in parts_of(good) if part in log.getvalue()]


async def test_a_token_comes_once(world: World) -> None:
    good = signed()
    # Known from now on, which is no excuse for its form.
    assert (await knock(world, ("Authorization", f"Bearer {good}")))[0] == 200
    assert (await knock(world, ("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")))[0] == 401
    for value in (f"Bearer {good} {good}", f"Bearer {good}, Bearer {good}", f"Bearer {good},{good}", f"Bearer\t{good}"):
        assert (await knock(world, ("Authorization", value)))[0] == 401
    for value in (good, f"Basic {good}", f"DPoP {good}", f"Token {good}", "Bearer", ""):
        status, challenge, _ = await knock(world, ("Authorization", value))
        assert status == 401
        assert challenge.startswith("Bearer ")
    for name in ("X-Authorization", "Proxy-Authorization", "Cookie"):
        assert (await knock(world, (name, f"Bearer {good}")))[0] == 401


async def test_a_token_of_5_mb_is_refused_before_it_has_arrived(
    world: World, verifier: TokenVerifier, log: io.StringIO
) -> None:
    huge = sign(fresh(pad="x" * 5_000_000))
    parts = urlsplit(world.gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {huge}\r\n\r\n".encode())
        status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
    finally:
        writer.close()
    assert status in (b"400", b"401", b"431")
    assert (await knock(world, ("Authorization", f"Bearer {signed()}")))[0] == 200
    assert huge[:20] not in log.getvalue()
    spent = []
    for _ in range(5):
        started = time.thread_time()
        with pytest.raises(Unauthenticated):
            await verifier.verify(huge)
        spent.append(time.thread_time() - started)
    assert min(spent) < 0.005


_edits = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4)).map(tuple), min_size=1, max_size=4
)


def edited(text: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The text with some bytes cut out and others put in."""
    for where, cut, put in edits:
        position = where % (len(text) + 1)
        text = text[:position] + put + text[position + cut :]
    return text


async def refused_or_known(verifier: TokenVerifier, token: str) -> None:
    try:
        principal = await verifier.verify(token)
    except (Unauthenticated, IdentityProviderUnavailable):
        return
    assert principal.issuer == ISSUER
    assert principal.subject


@given(header=_edits, payload=_edits, which=st.sampled_from(["header", "payload", "both"]))
async def test_signed_mutations_of_a_good_token_leave_no_other_exception(
    verifier: TokenVerifier, header: Any, payload: Any, which: str
) -> None:
    good_header, good_payload = json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": "k1"}), json.dumps(fresh())
    await refused_or_known(
        verifier,
        sign(
            edited(good_payload.encode(), payload if which != "header" else []),
            header=edited(good_header.encode(), header if which != "payload" else []),
        ),
    )


@given(edits=_edits)
async def test_mutations_of_the_text_leave_no_other_exception(verifier: TokenVerifier, edits: Any) -> None:
    good = signed()
    mutant = edited(good.encode(), edits).decode("latin-1")
    if mutant == good:
        return
    with pytest.raises((Unauthenticated, IdentityProviderUnavailable)):
        await verifier.verify(mutant)
