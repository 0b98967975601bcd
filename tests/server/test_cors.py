"""Which web pages may call: off by default, exact where it is on, and shown in a real browser."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from tests.servers.programs import programs
from tests.world import CONFIGURATION, Reply, World, envelope, open_world, routing

pytestmark = pytest.mark.asyncio(loop_scope="module")
APP = "https://app.example"
_METADATA = "/.well-known/oauth-protected-resource/mcp"


def _allowing(origin: str) -> str:
    return CONFIGURATION.replace("port: 0}", f"port: 0, allowed_origins: ['{origin}']}}", 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_to_app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A gateway that one origin may use."""
    async with open_world(tmp_path_factory.mktemp("cors"), _allowing(APP)) as world:
        yield world


async def _ask(
    world: World, origin: str | None, *, path: str = "/mcp", headers: str = "", method: str = "POST"
) -> Reply:
    sent = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    if origin is not None:
        sent["Origin"] = origin
    return await world.send(None, raw=b"", client=None, method="OPTIONS", url=world.base + path, headers=sent)


def _cors(headers: Mapping[str, str]) -> list[str]:
    return [name for name in headers if name.lower().startswith("access-control")]


async def test_it_is_off_by_default(world: World) -> None:
    for origin in ("http://localhost:1234", "http://127.0.0.1:80"):
        reply = await _ask(world, origin)
        assert (reply.status, _cors(reply.headers)) == (405, [])
        body = envelope("tools/list")
        reply = await world.send(body, headers={**routing(body), "Origin": origin})
        assert (reply.status, _cors(reply.headers)) == (200, [])
    assert (await _ask(world, APP)).status == 403
    assert (await _ask(world, APP, path=_METADATA, method="GET")).status == 405


async def test_a_preflight_of_an_allowed_origin_names_what_is_needed(open_to_app: World) -> None:
    reply = await _ask(open_to_app, APP, headers="authorization,content-type, mcp-param-country,x-other,mcp-param-a b")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == APP
    assert reply.headers["Access-Control-Allow-Methods"] == "POST"
    names = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name"} <= {*names}
    assert [name for name in names if name.startswith("mcp-param")] == ["mcp-param-country"]
    assert "x-other" not in names
    assert "Origin" in reply.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in reply.headers
    metadata = await _ask(open_to_app, APP, path=_METADATA, method="GET")
    assert (metadata.status, metadata.headers["Access-Control-Allow-Methods"]) == (204, "GET")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{APP}.evil.example", "http://app.example", f"{APP}:444", None, "*"]
)
async def test_others_get_no_leave(open_to_app: World, origin: str | None) -> None:
    for path in ("/mcp", _METADATA):
        reply = await _ask(open_to_app, origin, path=path)
        assert reply.status != 204
        assert not _cors(reply.headers)


async def test_every_answer_to_an_allowed_origin_can_be_read(open_to_app: World) -> None:
    body = envelope("tools/list")
    progress = envelope("tools/call", {"name": "customer_by_id", "arguments": {"id": 7}}, meta={"progressToken": 1})
    replies = [
        await open_to_app.send(body, headers={**routing(body), "Origin": APP}),
        await open_to_app.send(body, headers={**routing(body), "Origin": APP}, client=None),
        await open_to_app.send(progress, headers={**routing(progress), "Origin": APP}),
        await open_to_app.send(None, raw=b"", method="GET", headers={"Origin": APP}, url=open_to_app.base + _METADATA),
    ]
    assert [reply.status for reply in replies] == [200, 401, 200, 200]
    assert replies[2].is_stream
    for reply in replies:
        assert reply.headers["Access-Control-Allow-Origin"] == APP
        assert "WWW-Authenticate" in reply.headers["Access-Control-Expose-Headers"]
        assert reply.headers["Vary"] == "Origin"
    plain = await open_to_app.modern("tools/list")
    assert (_cors(plain.headers), plain.headers["Vary"]) == ([], "Origin")


async def test_every_answer_carries_the_security_headers(world: World) -> None:
    body = envelope("tools/list")
    replies = [
        await world.send(body, headers=routing(body)),
        await world.send({}, client=None),
        await world.send(None, raw=b"x"),
        *[
            await world.send(None, raw=b"", client=None, method="GET", url=world.base + path)
            for path in ("/healthz/live", "/nowhere", "/mcp", _METADATA)
        ],
        await world.send(None, raw=b"", client=None, method="GET", url=world.gateway.admin_url + "/healthz/ready"),
    ]
    assert [reply.status for reply in replies] == [200, 401, 400, 200, 404, 405, 200, 200]
    for reply in replies:
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert reply.headers["Server"] == "mcp-database-gateway"
        assert "Strict-Transport-Security" not in reply.headers
    assert [reply.headers["Cache-Control"] == "no-store" for reply in replies] == [True] * 6 + [False, True]


_PAGE = """<!doctype html><body>waiting</body><script>
const gateway = "%s", token = "%s";
const version = "2026-07-28";
const meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}};
async function run() {
  const metadata = await (await fetch(gateway.replace("/mcp", "/.well-known/oauth-protected-resource/mcp"))).json();
  const refused = await fetch(gateway, {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"});
  const params = {name: "customers_in", arguments: {country: "DE"}, _meta: meta};
  const answer = await fetch(gateway, {method: "POST",
    headers: {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
      "Authorization": "Bearer " + token, "MCP-Protocol-Version": version, "Mcp-Method": "tools/call",
      "Mcp-Name": "customers_in", "Mcp-Param-Country": "DE"},
    body: JSON.stringify({jsonrpc: "2.0", id: 1, method: "tools/call", params})});
  const result = (await answer.json()).result;
  return ["resource " + metadata.resource, "refused " + refused.status,
    "challenge " + (refused.headers.get("WWW-Authenticate") || "").slice(0, 6),
    "error " + result.isError].join("|");
}
run().then(text => document.body.textContent = text, error => document.body.textContent = "blocked " + error.name);
</script>"""


@asynccontextmanager
async def _pages() -> AsyncIterator[tuple[str, dict[str, str]]]:
    """A web server with one page, whose text is set later, and its origin."""
    content: dict[str, str] = {"page": ""}

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=content["page"], content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", content
    finally:
        await runner.cleanup()


async def _seen_in_browser(url: str) -> str:
    """The text of a page after its script has run."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            programs("chromium")["chromium"],
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
            *("--disable-dev-shm-usage", "--virtual-time-budget=10000", f"--user-data-dir={profile}"),
            *("--dump-dom", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return output.decode().partition("<body>")[2].partition("</body>")[0].partition("<script>")[0].strip()


async def test_in_a_browser_pages_of_allowed_origins_get_through_and_others_do_not(
    tmp_path: Path, chromium: None
) -> None:
    async with (
        _pages() as (allowed, page),
        _pages() as (foreign, other),
        open_world(tmp_path, _allowing(allowed)) as world,
    ):
        page["page"] = other["page"] = _PAGE % (world.gateway.url, await world.credentials().token())
        text = await _seen_in_browser(allowed)
        assert text == f"resource {world.gateway.url}|refused 401|challenge Bearer|error false"
        assert await _seen_in_browser(foreign) == "blocked TypeError"
