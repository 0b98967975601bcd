"""The way out by an egress proxy: who goes by it, who does not, and that its password is told to nobody."""

from __future__ import annotations

import asyncio
import io
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from gateway.auth.verifier import open_verifier
from gateway.config.auth import AuthSettings, IssuerSettings
from gateway.config.introspection import IntrospectionSettings
from gateway.config.problems import ConfigError
from gateway.net.http import FetchError, get_json, open_session
from gateway.net.oauth import ClientCredentials, TokenError
from gateway.net.proxy import ProxyError, proxy_for
from tests.auth.provider import FaultyProvider, until_ready
from tests.auth.tokens import AUDIENCE
from tests.servers.certificates import Authority
from tests.servers.egress import EgressProxy

NAME = "idp.zone.test"
ISSUER = f"https://{NAME}"
PASSWORD = "p@ss:word/with+all"
ENCODED = "p%40ss%3Aword%2Fwith%2Ball"


@dataclass
class Egress:
    """A provider behind TLS, whose name only the proxy knows.

    Attributes:
        provider: the identity provider.
        proxy: the only way to it.
        ca: who signed its certificate.
    """

    provider: FaultyProvider
    proxy: EgressProxy
    ca: Path

    def environment(self, user: str = f"gateway:{ENCODED}@") -> str:
        return f"http://{user}127.0.0.1:{self.proxy.port}"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Egress]:
    authority = Authority(folder / "authority", days=200)
    pair = authority.issue(NAME, days=200)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(FaultyProvider())
        provider.issuer = ISSUER
        runner = web.AppRunner(provider.application(), shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=pair.context()).start()
        hosts = {f"{NAME}:443": runner.addresses[0][1]}
        proxy = await stack.enter_async_context(EgressProxy(hosts, "gateway", PASSWORD))
        yield Egress(provider, proxy, authority.path)


@pytest.fixture
async def egress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Egress]:
    async with opened(tmp_path) as egress:
        monkeypatch.setenv("HTTPS_PROXY", egress.environment())
        yield egress


async def test_keys_and_introspection_go_by_the_proxy(egress: Egress) -> None:
    written = {"client_id": "gw", "client_secret": "s3cret", "endpoint": f"{ISSUER}/introspect"}
    asked = IntrospectionSettings.model_validate(written)
    settings = AuthSettings(
        ca=egress.ca, issuers=(IssuerSettings(issuer=ISSUER, audiences=(AUDIENCE,), introspection=asked),)
    )
    async with open_verifier(settings) as opening:
        verifier = await until_ready(opening)
        token = egress.provider.hand_out("opaque-token")
        principal = await verifier.verify(token)
        assert principal.subject == "agent"
        # What the provider showed is known, not what the proxy did.
        assert verifier.certificates() == {ISSUER: pytest.approx(time.time() + 200 * 86_400, abs=600)}
    assert set(egress.proxy.asked) == {f"{NAME}:443 200"}
    assert egress.provider.requests["/jwks"] == 1


async def test_tokens_of_our_own_go_by_the_proxy(egress: Egress) -> None:
    client = ClientCredentials(f"{ISSUER}/token", "agent", "s3cret", ca=egress.ca)
    assert (await client.token()).count(".") == 2
    assert egress.proxy.asked == [f"{NAME}:443 200"]
    unsure = ClientCredentials(f"{ISSUER}/token", "agent", "s3cret", ca=egress.ca.with_name("missing.pem"))
    with pytest.raises(TokenError, match="cannot take certificates from"):
        await unsure.token()


async def test_the_authority_of_the_file_is_the_only_one(egress: Egress, tmp_path: Path) -> None:
    """A proxy that opened TLS would be found out, unless its authority was named."""
    other = Authority(tmp_path / "other", "another authority")
    async with open_session(ca=other.path) as session:
        with pytest.raises(FetchError, match="ClientConnectorCertificateError"):
            await get_json(session, f"{ISSUER}/jwks", max_bytes=10_000, timeout=5)


@pytest.mark.parametrize(
    ("user", "host", "words"),
    [
        ("gateway:wrong@", NAME, "refused, with HTTP status 407"),
        ("", NAME, "refused, with HTTP status 407"),
        (f"gateway:{ENCODED}@", "elsewhere.test", "refused, with HTTP status 403"),
    ],
)
async def test_what_the_proxy_refuses_is_told_without_the_password(
    egress: Egress, monkeypatch: pytest.MonkeyPatch, user: str, host: str, words: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", egress.environment(user))
    async with open_session(ca=egress.ca) as session:
        with pytest.raises(FetchError, match=words) as refused:
            await get_json(session, f"https://{host}/jwks", max_bytes=10_000, timeout=5)
    told = "".join(traceback.format_exception(refused.value))
    assert "wrong" not in told
    assert PASSWORD not in told
    assert ENCODED not in told


async def test_a_proxy_that_is_away(egress: Egress, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://gateway:{ENCODED}@127.0.0.1:9")
    client = ClientCredentials(f"{ISSUER}/token", "agent", "s3cret", ca=egress.ca)
    with pytest.raises(TokenError, match="the proxy of HTTPS_PROXY cannot be reached"):
        await client.token()
    settings = AuthSettings(ca=egress.ca, issuers=(IssuerSettings(issuer=ISSUER, audiences=(AUDIENCE,)),))
    async with open_verifier(settings) as verifier, asyncio.timeout(10):
        while "cannot be reached" not in str(verifier.status()):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    assert "cannot be reached" in log.getvalue()
    assert ENCODED not in log.getvalue()
    assert PASSWORD not in log.getvalue()


@pytest.mark.parametrize(
    ("spared", "url", "goes_by_proxy"),
    [
        ("", "https://idp.example.com/", True),
        ("", "http://idp.example.com/", False),
        ("", "https://localhost/", False),
        ("", "https://127.0.0.1:8443/", False),
        ("", "https://[::1]/", False),
        ("example.com", "https://idp.example.com/", False),
        (".example.com", "https://idp.example.com/", False),
        ("example.com", "https://badexample.com/", True),
        ("other.test, .example.com ,x", "https://idp.example.com/", False),
        ("idp.example.com:443", "https://idp.example.com/", False),
        ("idp.example.com:8443", "https://idp.example.com/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.1.2.3", "https://10.1.2.3/", False),
        ("fd00::/8", "https://[fd00::5]/", False),
        ("not/a/network,*.com", "https://idp.example.com/", True),
        ("*", "https://idp.example.com/", False),
    ],
)
def test_who_goes_by_the_proxy(spared: str, url: str, goes_by_proxy: bool) -> None:
    for names in (("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")):
        environment = dict(zip(names, ("http://proxy.test:8080", spared), strict=True))
        found = proxy_for(url, environment)
        assert str(found) == ("proxy.test:8080" if goes_by_proxy else "None")


def test_forms_of_the_variable() -> None:
    url = "https://idp.example.com/"
    assert str(proxy_for(url, {"HTTPS_PROXY": "proxy.test"})) == "proxy.test:3128"
    assert str(proxy_for(url, {"HTTPS_PROXY": "http://proxy.test:80/"})) == "proxy.test:80"
    found = proxy_for(url, {"HTTPS_PROXY": f"http://gateway:{ENCODED}@proxy.test:80", "http_proxy": "http://x"})
    assert found is not None
    assert ENCODED not in repr(found) + found.url
    assert found.authorization not in repr(found)
    assert proxy_for(url, {"HTTP_PROXY": "http://proxy.test", "ALL_PROXY": "http://proxy.test"}) is None
    for wrong in ("socks5://s3cret@proxy.test", "https://u:s3cret@proxy.test", "http://", "http://s3cret:[::1"):
        with pytest.raises(ProxyError) as refused:
            proxy_for(url, {"HTTPS_PROXY": wrong})
        assert "s3cret" not in refused.value.message


async def test_an_authority_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("missing.pem", "empty.pem"):
        settings = AuthSettings(ca=tmp_path / name, issuers=(IssuerSettings(issuer=ISSUER, audiences=(AUDIENCE,)),))
        with pytest.raises(ConfigError, match=name):
            async with open_verifier(settings):
                pass
