"""How long certificates are good for: those in files, and those that servers and providers show."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.auth.provider import FaultyProvider
from tests.servers.certificates import Authority
from tests.servers.redis import running_redis
from tests.servers.secured import running_secured
from tests.servers.web import serving
from tests.world import AUDIENCE, CONFIGURATION, World, open_world

DAY = 86_400


async def _expiry(url: str, role: str, name: str) -> float | None:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    start = f'gateway_certificate_expiry_seconds{{name="{name}",role="{role}"}}'
    other = f'gateway_certificate_expiry_seconds{{role="{role}",name="{name}"}}'
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith((start, other))), None)


async def test_files_are_watched(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    pair = authority.issue("client", days=20)
    source = (
        "  pg: {engine: postgresql, host: localhost, port: 1, database: x, user: x, tls: "
        f"{{ca: {authority.path}, certificate: {pair.certificate}, key: {pair.key}}}}}\n"
    )
    wallet = tmp_path / "wallet"
    wallet.mkdir()
    (wallet / "ewallet.pem").write_bytes(
        pair.key.read_bytes() + b"Bag Attributes\n    friendlyName: gateway\n" + pair.certificate.read_bytes()
    )
    source += (
        "  ora: {engine: oracle, host: localhost, port: 1, service: x, user: x, "
        f"password: '${{env:PASSWORD}}', wallet: {wallet}}}\n"
    )
    configuration = CONFIGURATION.replace("sources:\n", f"sources:\n{source}")
    async with open_world(tmp_path, configuration, {"PASSWORD": "secret"}) as world:
        url = world.gateway.admin_url
        assert await _expiry(url, "client", "pg") == pytest.approx(20 * DAY, abs=600)
        assert await _expiry(url, "client", "ora") == pytest.approx(20 * DAY, abs=600)
        assert await _expiry(url, "ca", "pg") == pytest.approx(DAY, abs=600)
        assert await _expiry(url, "server", "pg") is None
        later = authority.issue("client-2", days=40)
        pair.certificate.write_bytes(later.certificate.read_bytes())
        changed = time.time() + 5
        os.utime(pair.certificate, (changed, changed))
        assert await _expiry(url, "client", "pg") == pytest.approx(40 * DAY, abs=600)
        pair.certificate.write_text("no certificate")
        os.utime(pair.certificate, (changed + 5, changed + 5))
        assert await _expiry(url, "client", "pg") is None


async def test_what_a_server_showed_is_watched(tmp_path: Path) -> None:
    with running_secured("postgresql") as place:
        place.serve(place.authority.issue("db.test", days=20))
        server = place.server
        tls = f"{{mode: verify-full, ca: {place.authority.path}, server_name: db.test}}"
        login = f"user: {server.user}, password: '${{env:DB_PASSWORD}}'"
        where = f"host: {server.host}, port: {server.port}, database: postgres"
        source = f"  pg: {{engine: postgresql, {where}, {login}, tls: {tls}}}\n"
        text = CONFIGURATION.replace("sources:\n", f"sources:\n{source}")
        async with open_world(tmp_path, text, {"DB_PASSWORD": server.password}) as world:
            async with asyncio.timeout(20):
                while not world.gateway.snapshot.sources["pg"].is_up:  # noqa: ASYNC110 - the pool's own pace
                    await asyncio.sleep(0.02)
            url = world.gateway.admin_url
            assert await _expiry(url, "server", "pg") == pytest.approx(20 * DAY, abs=600)
            assert await _expiry(url, "ca", "pg") == pytest.approx(365 * DAY, abs=600)


async def test_the_listeners_and_rediss_files_are_watched(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls", days=90)
    pair = authority.issue("gateway.test", days=30)
    tls = f"{{certificate: {pair.certificate}, key: {pair.key}, client_ca: {authority.path}}}"
    redis = f"redis: {{url: 'rediss://localhost:1/0', key: '${{env:SEAL}}', ca: {authority.path}}}\n"
    text = CONFIGURATION.replace("port: 0}", f"port: 0, tls: {tls}}}", 1) + redis
    async with open_world(tmp_path, text, {"SEAL": "s" * 32}) as world:
        url = world.gateway.admin_url
        assert await _expiry(url, "listener", "server") == pytest.approx(30 * DAY, abs=600)
        assert await _expiry(url, "ca", "server") == pytest.approx(90 * DAY, abs=600)
        assert await _expiry(url, "ca", "redis") == pytest.approx(90 * DAY, abs=600)


@asynccontextmanager
async def _provider(authority: Authority) -> AsyncIterator[tuple[FaultyProvider, str]]:
    """A provider that gives keys and tokens on one host (30 days), and is asked on another (20 days)."""
    provider = FaultyProvider()
    hosts = [authority.issue("idp.test", address="127.0.0.1", days=days).context() for days in (30, 20)]
    async with serving(provider.application(), hosts[0]) as url, serving(provider.application(), hosts[1]) as second:
        provider.issuer = url
        yield provider, f"{second}/introspect"


async def _until_watched(world: World, role: str, name: str) -> None:
    async with asyncio.timeout(20):
        while await _expiry(world.gateway.admin_url, role, name) is None:  # noqa: ASYNC110 - the pace of others
            await asyncio.sleep(0.02)


async def test_what_identity_providers_show_is_watched(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    async with _provider(authority) as (provider, endpoint):
        token = (
            f"{{url: {provider.token_url}, client_id: agent, client_secret: '${{env:SECRET}}', ca: {authority.path}}}"
        )
        asked = f"{{endpoint: {endpoint}, client_id: gateway, client_secret: '${{env:SECRET}}'}}"
        issuer = f"    - {{issuer: {provider.issuer}, audiences: ['{AUDIENCE}'], introspection: {asked}}}\n"
        sources = (
            f"  pg: {{engine: postgresql, host: localhost, port: 1, database: x, user: x, token: {token}}}\n"
            f"  ora: {{engine: oracle, host: localhost, port: 1, service: x, tls: {{mode: require}}, token: {token}}}\n"
        )
        text = CONFIGURATION.replace("auth:\n", f"auth:\n  ca: {authority.path}\n")
        text = text.replace("sources:\n", f"{issuer}sources:\n{sources}")
        async with open_world(tmp_path, text, {"SECRET": "s3cret"}) as world:
            url = world.gateway.admin_url
            for role, name in (("issuer", provider.issuer), ("token", "pg"), ("token", "ora")):
                await _until_watched(world, role, name)
                assert await _expiry(url, role, name) == pytest.approx(30 * DAY, abs=600)
            await world.gateway.snapshot.verifier.verify(provider.hand_out("opaque", aud=AUDIENCE))
            assert await _expiry(url, "issuer", provider.issuer) == pytest.approx(20 * DAY, abs=600), "the first end"
            assert await _expiry(url, "issuer", world.provider.issuer) is None, "in the clear on loopback"


async def test_what_redis_shows_is_watched(tmp_path: Path) -> None:
    short = Authority(tmp_path / "tls", days=0.5)
    with running_redis(has_tls=True) as server:
        assert server.authority is not None
        # A source may have the name that the gateway has for its Redis: whichever ends first counts.
        source = "  redis: {engine: postgresql, host: localhost, port: 1, database: x, user: x, tls: "
        text = CONFIGURATION.replace("sources:\n", f"sources:\n{source}{{mode: require, ca: {short.path}}}}}\n")
        text += f"redis: {{url: 'rediss://{server.host}:{server.port}', password: '${{env:PASSWORD}}', timeout: 5s, "
        text += f"key: '${{env:KEY}}', ca: {server.authority.path}}}\n"
        async with open_world(tmp_path, text, {"PASSWORD": server.password, "KEY": server.key}) as world:
            await _until_watched(world, "server", "redis")
            assert await _expiry(world.gateway.admin_url, "server", "redis") == pytest.approx(DAY, abs=600)
            assert await _expiry(world.gateway.admin_url, "ca", "redis") == pytest.approx(DAY / 2, abs=600)
