"""Every way in besides `/mcp` without sessions: sessions, HTTP+SSE, both listeners' paths, and raw bytes on the wire.

Whatever is sent, every answer has a status below 500 and comes in time, the gateway goes on, and the log has no more
lines than there were requests, and no stack trace.
"""

from __future__ import annotations

import asyncio
import json
import re
import string
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.logged import Accounts, logged
from tests.server.raw import connect
from tests.server.streams import HELLO, settled
from tests.server.test_fuzz import BODIES, HEADERS, VALUES
from tests.tally import LINES
from tests.world import CONFIGURATION, Reply, World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT: Final = 20.0
ACCEPT: Final = {"Accept": "application/json, text/event-stream"}
FUZZING = settings(suppress_health_check=list(HealthCheck))
FEATURES: Final = "features: {sessions: true, http_sse: true}\ntoolsets: {one: {tools: [customer_by_id]}}\n"


@dataclass
class Place:
    """The gateway with everything on.

    Attributes:
        world: the gateway.
        accounts: of requests and log.
        own: the session in use.
    """

    world: World
    accounts: Accounts
    own: str = ""

    async def session(self) -> str:
        """The session that it has, or a new one."""
        if self.own not in self.world.gateway.sessions._all:
            hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
            reply = await self.send("POST", self.world.gateway.url, ACCEPT, hello)
            self.own = reply.headers["Mcp-Session-Id"]
        return self.own

    async def send(self, method: str, url: str | URL, headers: Mapping[str, str], body: Any = None) -> Reply:
        """One request with a good token; of a stream only the head is read."""
        self.accounts.requests += 1
        data = json.dumps(body).encode() if body is not None else None
        known = {
            "Authorization": f"Bearer {await self.world.credentials().token()}",
            "Content-Type": "application/json",
        }
        own = {name.lower() for name in headers}
        given = {name: value for name, value in known.items() if name.lower() not in own} | dict(headers)
        async with (
            asyncio.timeout(LIMIT),
            self.world.http.request(method, url, data=data, headers=given, allow_redirects=False) as response,
        ):
            is_open = method == "GET" and response.content_type == "text/event-stream"
            found = b"" if is_open else await response.read()
            if is_open:
                response.close()
        reply = Reply(response.status, response.headers.copy(), found)
        assert reply.status < 500, (method, url, reply)
        self.accounts.check()
        return reply


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """Afterwards a good call is answered, and nothing is left over."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with logged() as log:
        async with open_world(folder, CONFIGURATION + FEATURES) as world:
            await settled(world)
            await world.credentials().token()
            before, place = len(asyncio.all_tasks()), Place(world, Accounts(log))
            yield place
            sessions = world.gateway.sessions._all.values()
            async with asyncio.timeout(LIMIT):
                while len(asyncio.all_tasks()) > before + 2 or any(each.is_busy for each in sessions):  # noqa: ASYNC110 - many
                    await asyncio.sleep(0.01)
            hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
            assert (await place.send("POST", world.gateway.url, ACCEPT, hello)).status == 200
            LINES.append(f"fuzzed ways in: {place.accounts}")


# Sessions


@FUZZING
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "DELETE"]),
    whose=st.sampled_from(["own", "own", "own", "none", "wrong"]),
    body=BODIES,
    headers=HEADERS,
    last=st.sampled_from(["", "00000000-0-0", "00000000-1-1"]) | VALUES,
)
async def test_anything_in_a_session(
    place: Place, method: str, whose: str, body: Any, headers: dict[str, str], last: str
) -> None:
    sent = {"MCP-Protocol-Version": "2025-11-25", "Accept": "application/json, text/event-stream"} | headers
    if whose != "none":
        sent["Mcp-Session-Id"] = await place.session() if whose == "own" else "x" + last
    if method == "GET":
        sent |= {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    reply = await place.send(method, place.world.gateway.url, sent, body if method == "POST" else None)
    if method == "DELETE" and whose == "own" and reply.status < 300:
        place.own = ""


# HTTP+SSE


@FUZZING
@given(bodies=st.lists(BODIES, max_size=4), headers=HEADERS, query=st.none() | VALUES)
async def test_anything_over_http_sse(
    place: Place, bodies: list[Any], headers: dict[str, str], query: str | None
) -> None:
    world = place.world
    opening = {"Authorization": f"Bearer {await world.credentials().token()}", "Accept": "text/event-stream"}
    place.accounts.requests += 1
    async with asyncio.timeout(LIMIT), world.http.get(f"{world.base}/sse", headers=opening) as stream:
        assert (await stream.content.readline()) == b"event: endpoint\n"
        address = (await stream.content.readline()).decode()[6:].strip()
        if query is not None:
            address = str(URL("/messages").with_query({"sessionId": query}))
        for body in bodies:
            await place.send("POST", world.base + address, headers, body)
        stream.close()


# Paths

_SEGMENT: Final = st.text(string.ascii_letters + string.digits + "-._~%!$&'()*+,;=:@\\\"<>{}|^`", max_size=8)
_PATHS: Final = st.sampled_from(
    [
        *("/mcp", "/mcp/one", "/sse", "/sse/one", "/messages", "/messages/one", "/healthz/live", "/healthz/ready"),
        *("/metrics", "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp/one"),
        "/.well-known/oauth-authorization-server",
    ]
) | st.lists(_SEGMENT, max_size=5).map("/".join).map("/{}".format)
_VERBS: Final = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])


@FUZZING
@given(
    is_admin=st.booleans(),
    method=_VERBS | st.text(string.ascii_uppercase, min_size=1, max_size=8).filter(lambda verb: verb != "CONNECT"),
    path=_PATHS,
    query=st.text(string.ascii_letters + "=&%;+", max_size=12),
    headers=HEADERS,
    origin=st.none() | VALUES,
)
async def test_any_path_and_method(
    place: Place, is_admin: bool, method: str, path: str, query: str, headers: dict[str, str], origin: str | None
) -> None:
    base = place.world.gateway.admin_url if is_admin else place.world.base
    sent = headers | ({} if origin is None else {"Origin": origin.strip()})
    await place.send(method, URL(f"{base}{path}?{query}", encoded=True), sent)


# The wire

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_BODY: Final = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
_LINES: Final = (
    b"Host: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    b"MCP-Protocol-Version: 2025-11-25\r\nX-Forwarded-For: 10.0.0.1\r\nAuthorization: Bearer a.b.c\r\n"
)
_WHOLE: Final = [
    b"POST /mcp HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (_LINES, len(_BODY), _BODY),
    b"POST /mcp HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (_LINES, len(_BODY), _BODY),
    b"POST /mcp HTTP/1.1\r\n%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s" % (_LINES, len(_BODY), _BODY),
    b"GET /sse HTTP/1.0\r\n%s\r\n" % _LINES,
    b"GET /.well-known/oauth-protected-resource HTTP/1.1\r\n%s\r\n" % _LINES,
    b"GET /healthz/ready HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
_BITS: Final = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\xff", b"\x80", b"%00", b"%2e%2e/", b"0x", b"-1", b"+"),
        *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
        *(b"Content-Encoding: gzip\r\n", b"Host: evil\r\n", b"Connection: close\r\n", b"HTTP/1.1", b"HTTP/9.9", b"GET"),
        *(b"99999999999999999999", b"ffffffffffffffff", b"http://user@evil:0/", b"[::", b"A" * 9000),
    ]
) | st.binary(max_size=8)


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """One or two requests, with bytes cut out, put in and moved about."""
    data = b"".join(draw(st.lists(st.sampled_from(_WHOLE), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)) | st.just(start))
        data = data[:start] + draw(_BITS | st.just(data[start:end] * 2)) + data[end:]
    return data


@FUZZING
@given(is_admin=st.booleans(), data=_broken() | st.binary(max_size=200), size=st.sampled_from([1 << 20, 1 << 20, 7]))
async def test_any_bytes_on_the_wire(place: Place, is_admin: bool, data: bytes, size: int) -> None:
    """In pieces, too; then the sender has no more to say, and the gateway answers or closes, whatever is missing."""
    data = data.replace(b"a.b.c", (await place.world.credentials().token()).encode())
    place.accounts.requests += data.count(b"HTTP/") + 1
    async with asyncio.timeout(LIMIT), connect(place.world.gateway.admin_url if is_admin else place.world.base) as wire:
        try:
            for start in range(0, min(len(data), 40 * size), size):
                await wire.send(data[start : start + size])
            await wire.send(data[40 * size :])
            wire.writer.write_eof()
        except OSError:
            pass  # it would hear no more; what it said before counts
        said = await wire.until_closed()
    statuses = [int(status) for status in _STATUS.findall(said)]
    assert all(status < 500 for status in statuses), (data, said)
    assert b"Traceback" not in said
    place.accounts.check()
