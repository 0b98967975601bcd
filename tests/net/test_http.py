"""Small documents from a real server, and what is refused before or while they arrive."""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.net.http import FetchError, get_json, is_secure, leads_to_loopback, open_session
from gateway.net.tls import Sighting
from gateway.strict_json import MAX_DEPTH
from tests.servers.certificates import Authority
from tests.servers.web import serving

Handler = Callable[[web.Request], web.StreamResponse]


class Server:
    """Answers with whatever the test puts in."""

    def __init__(self) -> None:
        self.answer: Handler = lambda _: web.json_response({})
        self.seen: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return self.answer(request)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    runner = web.ServerRunner(web.Server(served.handle), shutdown_timeout=1)  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield served
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


async def test_a_document(server: Server, session: aiohttp.ClientSession) -> None:
    server.answer = lambda _: web.Response(text='{"a": [1]}', headers={"Set-Cookie": "a=b"})
    for _ in range(2):
        assert await get_json(session, server.url, max_bytes=10, timeout=5) == {"a": [1]}
    assert "Cookie" not in server.seen[1].headers
    assert server.seen[1].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500])
async def test_only_200_counts(server: Server, session: aiohttp.ClientSession, status: int) -> None:
    server.answer = lambda _: web.Response(status=status, headers={"Location": "/other"})
    with pytest.raises(FetchError, match=str(status)):
        await get_json(session, server.url, max_bytes=10, timeout=5)
    assert len(server.seen) == 1


async def test_size_is_bounded_packed_or_not(server: Server, session: aiohttp.ClientSession) -> None:
    server.answer = lambda _: web.Response(body=b"[" + b" " * 1000 + b"]")
    with pytest.raises(FetchError, match="larger than 1000 bytes"):
        await get_json(session, server.url, max_bytes=1000, timeout=5)
    bomb = gzip.compress(b" " * 50_000_000)
    server.answer = lambda _: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchError):
        await get_json(session, server.url, max_bytes=100_000, timeout=5)


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"<html>", b"\xff", b"[" * 200_000])
async def test_what_is_not_json(server: Server, session: aiohttp.ClientSession, body: bytes) -> None:
    server.answer = lambda _: web.Response(body=body)
    with pytest.raises(FetchError, match="not JSON"):
        await get_json(session, server.url, max_bytes=1 << 20, timeout=5)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_depth_is_bounded(server: Server, session: aiohttp.ClientSession, opening: bytes, closing: bytes) -> None:
    body = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH
    server.answer = lambda _: web.Response(body=body)
    assert await get_json(session, server.url, max_bytes=1 << 20, timeout=5)
    for levels in (MAX_DEPTH + 1, 1000):
        body = opening * levels + b"1" + closing * levels
        with pytest.raises(FetchError, match="deeper than 64 levels"):
            await get_json(session, server.url, max_bytes=1 << 20, timeout=5)


@pytest.mark.parametrize(
    "url",
    [
        *("http://idp.example/", "ftp://127.0.0.1/", "file:///etc/passwd", "//127.0.0.1/", "idp.example", ""),
        *("https://", "https:///path", "https://user@idp.example/", "https://[::1", "http://127.0.0.1.example/"),
        *("http://localhost.example/", "http://[::2]/", "http://0.0.0.0/", "https://idp.example:99999/"),
    ],
)
async def test_urls_that_are_never_fetched(session: aiohttp.ClientSession, url: str) -> None:
    assert not is_secure(url)
    with pytest.raises(FetchError, match="https is required"):
        await get_json(session, url, max_bytes=10, timeout=5)


def test_urls_that_may_be_fetched() -> None:
    for url in (
        "https://idp.example/x",
        "http://localhost:1/",
        "http://127.9.9.9/",
        "http://[::1]:5/",
        "https://[::2]/",
    ):
        assert is_secure(url)
    assert not leads_to_loopback("https://idp.example/")
    assert leads_to_loopback("https://127.0.0.1/")


async def test_what_the_server_shows_is_remembered(tmp_path: Path) -> None:
    authority, statuses = Authority(tmp_path / "tls"), [200, 200, 500]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, status=statuses.pop(0), headers={"Connection": "close"})

    app, sighting = web.Application(), Sighting()
    app.router.add_get("/", answer)
    context = authority.issue("idp.test", address="127.0.0.1", days=20).context()
    async with serving(app, context) as url, open_session(ca=authority.path) as session:
        await get_json(session, url, max_bytes=10, timeout=5)
        assert sighting.expires_at is None, "nobody asked to remember"
        await get_json(session, url, max_bytes=10, timeout=5, sighting=sighting)
        assert sighting.expires_at == pytest.approx(time.time() + 20 * 86_400, abs=600)
        renewed = authority.issue("idp.test", address="127.0.0.1", days=40)
        context.load_cert_chain(renewed.certificate, renewed.key)
        with pytest.raises(FetchError, match="500"):
            await get_json(session, url, max_bytes=10, timeout=5, sighting=sighting)
        assert sighting.expires_at == pytest.approx(time.time() + 40 * 86_400, abs=600)
        strange = Authority(tmp_path / "strange").issue("idp.test", address="127.0.0.1", days=60)
        context.load_cert_chain(strange.certificate, strange.key)
        with pytest.raises(FetchError, match="Certificate"):
            await get_json(session, url, max_bytes=10, timeout=5, sighting=sighting)
        assert sighting.expires_at == pytest.approx(time.time() + 40 * 86_400, abs=600), "only what verifies counts"


def test_a_certificate_that_cannot_be_read_has_no_end() -> None:
    sighting = Sighting()
    sighting.see(b"no certificate")
    assert sighting.expires_at is None
