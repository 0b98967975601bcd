"""The door: Host and Origin, correlation id, token, rate, body - in this order."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import jwt
import pytest

from tests.world import CONFIGURATION, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "user@localhost", ""])
async def test_a_foreign_host_is_refused(world: World, host: str) -> None:
    reply = await world.send(envelope("tools/list"), client=None, headers={"Host": host})
    assert reply.status == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "[::1]:80", "LOCALHOST"])
async def test_loopback_names_are_ours(world: World, host: str) -> None:
    body = envelope("tools/list")
    assert (await world.send(body, headers={**routing(body), "Host": host})).status == 200


async def test_a_foreign_origin_is_403_even_without_a_token(world: World) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        assert (await world.send({}, client=None, headers={"Origin": origin})).status == 403


async def test_health_needs_no_host_and_no_token(world: World) -> None:
    for path in ("/healthz/live", "/healthz/ready"):
        reply = await world.send(
            None, raw=b"", client=None, method="GET", url=world.base + path, headers={"Host": "pod"}
        )
        assert reply.status == 200


async def test_nothing_is_parsed_for_a_stranger(world: World) -> None:
    reply = await world.send(None, raw=b"not json", client=None)
    assert reply.status == 401
    challenge = reply.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert "error=" not in challenge
    assert f'resource_metadata="{world.base}/.well-known/oauth-protected-resource/mcp"' in challenge
    assert "scope=" in challenge


async def test_a_bad_token_is_called_invalid(world: World) -> None:
    forged = jwt.encode({"sub": "x"}, "secret-of-thirty-two-bytes-or-more", algorithm="HS256")
    for token in ("garbage", forged):
        reply = await world.send({}, client=None, headers={"Authorization": f"Bearer {token}"})
        assert reply.status == 401
        assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
        assert token not in reply.body.decode()


async def test_a_token_in_the_query_string_is_refused(world: World) -> None:
    token = await world.credentials().token()
    url = f"{world.gateway.url}?access_token={token}"
    assert (await world.send(envelope("tools/list"), client=None, url=url)).status == 401
    assert (await world.send(envelope("tools/list"), client="reader", url=url)).status == 401


async def test_the_correlation_id_is_taken_when_harmless_and_made_when_not(world: World) -> None:
    taken = await world.modern("tools/list", headers={"X-Request-ID": "job-7_a.b"})
    assert taken.headers["X-Request-ID"] == "job-7_a.b"
    for offered in ("x" * 65, "a b", "a;b", "ü"):
        made = await world.modern("tools/list", headers={"X-Request-ID": offered})
        assert re.fullmatch("[0-9a-f]{32}", made.headers["X-Request-ID"])
    refused = await world.send({}, client=None, headers={"X-Request-ID": "job-8"})
    assert refused.headers["X-Request-ID"] == "job-8"


async def test_a_body_that_says_it_is_too_large_is_413(world: World) -> None:
    reply = await world.send(None, raw=b" " * ((1 << 20) + 1))
    assert reply.status == 413


async def test_a_chunked_body_is_cut_off_at_the_limit(world: World) -> None:
    token = await world.credentials().token()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.base.rsplit(":", 1)[1]))
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(17):
        writer.write(chunk)
    await writer.drain()
    # No last chunk was sent: the answer comes because of the limit.
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Encoding": "gzip"}]
)
async def test_only_plain_json_bodies_are_taken(world: World, headers: dict[str, str]) -> None:
    assert (await world.send({}, headers=headers)).status in (400, 415)


async def test_a_client_that_takes_no_json_is_406(world: World) -> None:
    body = envelope("tools/list")
    assert (await world.send(body, headers={**routing(body), "Accept": "text/html"})).status == 406


async def test_the_metadata_is_at_both_well_known_paths(world: World) -> None:
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"):
        reply = await world.send(None, raw=b"", client=None, method="GET", url=world.base + path)
        assert reply.status == 200
        document = reply.message
        assert document["resource"] == world.gateway.url
        assert document["authorization_servers"] == [world.provider.issuer]
        assert "offline_access" not in document["scopes_supported"]


async def test_a_client_over_its_rate_is_429_and_told_when(tmp_path: Path) -> None:
    slow = CONFIGURATION.replace("requests_per_minute: 100000, burst: 10000,", "requests_per_minute: 6, burst: 2,")
    async with open_world(tmp_path, slow) as world:
        statuses = [(await world.modern("tools/list")).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = await world.modern("tools/list")
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
        assert refused.error["data"]["retry_after_ms"] > 0
        # Another client has its own budget.
        assert (await world.modern("tools/list", client="stranger")).status == 200
