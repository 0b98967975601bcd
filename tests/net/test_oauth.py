"""The gateway's own tokens, from a real endpoint: early refresh, one request at a time, outages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import BasicAuth, web

from gateway.net.oauth import ClientCredentials, TokenError
from tests.auth.provider import Clock
from tests.servers.web import serving


class Endpoint:
    """A token endpoint that numbers its tokens."""

    def __init__(self) -> None:
        self.url = ""
        self.count = 0
        self.answer: dict[str, Any] = {"expires_in": 300}
        self.status = 200
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.asked = asyncio.Event()
        self.seen: list[tuple[BasicAuth, dict[str, Any]]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.count += 1
        self.seen.append((BasicAuth.decode(request.headers["Authorization"]), dict(await request.post())))
        self.asked.set()
        await self.flowing.wait()
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        # In two pieces, as networks deliver.
        body = json.dumps({"access_token": f"token-{self.count}", **self.answer}).encode()
        await response.write(body[:10])
        await asyncio.sleep(0.01)
        await response.write(body[10:])
        return response


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    served = Endpoint()
    app = web.Application()
    app.router.add_post("/token", served.handle)
    async with serving(app) as url:
        served.url = f"{url}/token"
        yield served
        served.flowing.set()


def source(endpoint: Endpoint, clock: Clock) -> ClientCredentials:
    return ClientCredentials(endpoint.url, "an id", "a:secret", scope="a b", resource="urn:r", clock=clock)


@pytest.mark.parametrize(("life", "served"), [(300, 240), (3600, 3540), (100, 50), (121, 61), (2, 1)])
async def test_a_token_is_replaced_a_minute_before_its_end(endpoint: Endpoint, life: int, served: float) -> None:
    clock = Clock(1000.0)
    credentials = source(endpoint, clock)
    endpoint.answer["expires_in"] = life
    assert await credentials.token() == "token-1"
    clock.now = 1000.0 + served - 0.01
    assert await credentials.token() == "token-1"
    clock.now = 1000.0 + served
    assert await credentials.token() == "token-2"


async def test_what_is_asked(endpoint: Endpoint) -> None:
    await source(endpoint, Clock(0.0)).token()
    [(auth, form)] = endpoint.seen
    # Form-encoded before they were joined (RFC 6749 section 2.3.1).
    assert (auth.login, auth.password) == ("an+id", "a%3Asecret")
    assert form == {"grant_type": "client_credentials", "scope": "a b", "resource": "urn:r"}


async def test_many_who_ask_at_once_cause_one_request(endpoint: Endpoint) -> None:
    credentials = source(endpoint, Clock(0.0))
    endpoint.flowing.clear()
    waiting = [asyncio.create_task(credentials.token()) for _ in range(50)]
    await endpoint.asked.wait()
    for task in waiting[:25]:
        task.cancel()
    endpoint.flowing.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[25:] == ["token-1"] * 25
    assert all(isinstance(result, asyncio.CancelledError) for result in results[:25])
    assert endpoint.count == 1


async def test_while_the_endpoint_is_down_the_last_token_serves_to_its_end(endpoint: Endpoint) -> None:
    clock = Clock(0.0)
    credentials = source(endpoint, clock)
    await credentials.token()
    endpoint.answer = {"access_token": None, "error": "temporarily_unavailable"}
    for now, count in ((240.0, 2), (240.1, 2), (244.9, 2), (245.0, 3), (299.9, 4)):
        clock.now = now
        assert await credentials.token() == "token-1"
        assert endpoint.count == count
    clock.now = 300.0
    with pytest.raises(TokenError, match="temporarily_unavailable"):
        await credentials.token()
    endpoint.answer = {"expires_in": 300}
    assert (await credentials.token()).startswith("token-")


async def test_a_refused_token_is_not_used_again(endpoint: Endpoint) -> None:
    credentials = source(endpoint, Clock(0.0))
    await credentials.token()
    credentials.forget()
    endpoint.answer = {"access_token": None, "error": "invalid_client"}
    with pytest.raises(TokenError, match="invalid_client"):
        await credentials.token()


@pytest.mark.parametrize(
    "answer",
    [{"access_token": 7}, {"access_token": ""}, {"expires_in": "300"}, {"expires_in": True}, {"pad": "x" * 70_000}],
)
async def test_answers_that_are_none(endpoint: Endpoint, answer: dict[str, Any]) -> None:
    endpoint.answer = answer
    with pytest.raises(TokenError) as caught:
        await source(endpoint, Clock(0.0)).token()
    assert "secret" not in str(caught.value)


async def test_an_endpoint_that_is_not_there() -> None:
    with pytest.raises(TokenError, match="cannot be reached"):
        await ClientCredentials("http://127.0.0.1:1/token", "a", "b").token()
