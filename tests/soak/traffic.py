"""What is done to the gateway meanwhile: every kind of call, at a steady rate, each with the one outcome due to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp

from tests.bench import gateways
from tests.bench.gateways import LEGACY
from tests.soak.service import Service
from tests.world import MODERN, routing

_PATIENCE: Final = aiohttp.ClientTimeout(total=60)
_AT_ONCE: Final = 100
_HELLO: Final = {"capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}
_SSE: Final = "2024-11-05"


class Wrong(Exception):
    """An answer that is not the one due."""


def expect(is_so: bool, told: object) -> None:
    """Take what was told for wrong, unless it is so."""
    if not is_so:
        raise Wrong(str(told)[:500])


@dataclass
class Traffic:
    """Agents of one client, and what became of their calls.

    Attributes:
        service: whom they ask.
        http: their connections.
        counts: calls that ended as they should, by kind.
        wrong: what did not, in words.
        written: keys whose writing was confirmed.
    """

    service: Service
    http: aiohttp.ClientSession
    token: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    _dice: random.Random = field(default_factory=lambda: random.Random(20260728))
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _generation: int = 0
    _lasting: dict[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """All that ended."""
        return sum(self.counts.values()) + len(self.wrong)

    async def run(self, kinds: Mapping[str, tuple[Kind, float]], rate: float, seconds: float, most: int | None) -> None:
        """Send at a rate until the time is over or that many are sent; the last have ended when this returns."""
        names, weights = list(kinds), [weight for _, weight in kinds.values()]
        places, tasks, sent = asyncio.Semaphore(_AT_ONCE), set[asyncio.Task[None]](), 0
        due, until = time.monotonic(), time.monotonic() + seconds
        while (due := due + self._dice.expovariate(rate)) < until and (most is None or sent < most):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await places.acquire()
            name = self._dice.choices(names, weights)[0]
            task = asyncio.create_task(self._one(name, kinds[name][0]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: places.release())
            sent += 1
        await asyncio.gather(*tasks)

    async def _one(self, name: str, kind: Kind) -> None:
        try:
            await kind(self)
        except (Wrong, aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
            self.wrong.append(f"{name}: {error!r}")
        else:
            self.counts[name] += 1

    def new_key(self) -> str:
        """A key that was never written."""
        return f"key-{next(self._numbers)}"

    def headers(self, revision: str, body: Mapping[str, Any]) -> dict[str, str]:
        """Of one request."""
        more = routing(body) if revision == MODERN else {"MCP-Protocol-Version": revision}
        return gateways.headers(self.token) | more

    @contextlib.asynccontextmanager
    async def sent(
        self, body: Mapping[str, Any], revision: str = MODERN, url: str | None = None, **more: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; its answer has begun."""
        headers = self.headers(revision, body) | more
        url = url or self.service.server.url
        async with self.http.post(url, json=body, headers=headers, timeout=_PATIENCE) as response:
            yield response

    async def call(self, tool: str, *, progress: bool = False, **arguments: Any) -> Any:
        """The result of a `tools/call`."""
        async with self.sent(gateways.body(MODERN, tool, arguments, progress=progress)) as response:
            text = await response.text()
            expect(response.status == 200, (response.status, text))
        if response.content_type == "text/event-stream":
            text = text.rstrip().rpartition("data: ")[2]
        message = json.loads(text)
        expect("result" in message, text)
        return message["result"]

    async def fails(self, code: str, tool: str, **arguments: Any) -> None:
        """A `tools/call` that must end with this code."""
        result = await self.call(tool, **arguments)
        found = result.get("_meta", {}).get("mcp-database-gateway/error", {}).get("code")
        expect(bool(result["isError"]) and found == code, result)

    async def rows(self, tool: str, *, progress: bool = False, **arguments: Any) -> Any:
        """The rows of a `tools/call`."""
        result = await self.call(tool, progress=progress, **arguments)
        expect(not result["isError"], result)
        return result["structuredContent"]["rows"]

    async def reads(self, *, progress: bool = False) -> None:
        """One customer, which must be the one asked for."""
        number = self._dice.randint(1, gateways.IDS)
        rows = await self.rows("customer_by_id", progress=progress, id=number)
        expect(rows[0]["name"] == f"Customer {number}", rows)

    async def begin_session(self) -> dict[str, str]:
        """What the requests of a new session carry."""
        hello = gateways.request(LEGACY, "initialize", {"protocolVersion": LEGACY, **_HELLO})
        async with self.sent(hello, LEGACY) as response:
            session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}
            await response.read()
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with self.sent(ready, LEGACY, **session) as response:
            expect(response.status == 202, response.status)
        return session

    async def reads_in(self, session: Mapping[str, str]) -> None:
        """One customer, in a session."""
        body = gateways.body(LEGACY, "customer_by_id", {"id": 7}) | {"id": next(self._numbers)}
        async with self.sent(body, LEGACY, **session) as response:
            expect("Customer 7" in (text := await response.text()), text)


Kind = Callable[[Traffic], Awaitable[None]]


async def _read(traffic: Traffic) -> None:
    await traffic.reads()


async def _read_in_session(traffic: Traffic) -> None:
    """One session lasts from the first call to the last, whatever is reloaded meanwhile."""
    if not traffic._lasting:
        traffic._lasting = await traffic.begin_session()
    await traffic.reads_in(traffic._lasting)


async def _stream(traffic: Traffic) -> None:
    await traffic.reads(progress=True)


async def _list(traffic: Traffic) -> None:
    async with traffic.sent(gateways.request(MODERN, "tools/list")) as response:
        names = {tool["name"] for tool in (await response.json())["result"]["tools"]}
    expect({"record", "sleep", "generation"} <= names, names)


async def _generation(traffic: Traffic) -> None:
    last = traffic._generation
    found = (await traffic.rows("generation"))[0]["generation"]
    expect(last <= found <= traffic.service.generation, f"{found} after {last}")
    traffic._generation = max(traffic._generation, found)


async def _write(traffic: Traffic) -> None:
    key = traffic.new_key()
    expect(await traffic.rows("record", key=key) == [{"key": key}], key)
    traffic.written.add(key)


async def _write_once(traffic: Traffic) -> None:
    key = traffic.new_key()
    for _ in range(2):
        result = await traffic.call("record_once", key=key)
        expect(not result["isError"], result)
        traffic.written.add(key)


async def _write_again(traffic: Traffic) -> None:
    if traffic.written:
        await traffic.fails("constraint_violation", "record", key=next(iter(traffic.written)))


async def _mistake(traffic: Traffic) -> None:
    await traffic.fails("invalid_arguments", "customer_by_id", id="one")


async def _unknown_tool(traffic: Traffic) -> None:
    async with traffic.sent(gateways.body(MODERN, "no_such_tool", {})) as response:
        expect("error" in await response.json(), response.status)


async def _malformed(traffic: Traffic) -> None:
    headers = traffic.headers(LEGACY, {})
    async with traffic.http.post(traffic.service.server.url, data=b'{"jsonrpc": ', headers=headers) as response:
        expect(response.status == 400, response.status)


async def _stranger(traffic: Traffic) -> None:
    forged = f"{traffic.token[:-12]}{traffic._dice.getrandbits(48):012x}"
    async with traffic.sent(gateways.request(MODERN, "tools/list"), Authorization=f"Bearer {forged}") as response:
        expect(response.status == 401, response.status)


async def _timeout(traffic: Traffic) -> None:
    await traffic.fails("statement_timeout", "sleep_in_haste")


async def _disconnect(traffic: Traffic) -> None:
    """Leaves in the middle of a statement."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05 + traffic._dice.random() * 0.3):
            await traffic.call("sleep", seconds=20)
            raise Wrong("slept through")


async def _renewal(traffic: Traffic) -> None:
    traffic.token = await asyncio.to_thread(traffic.service.world.token)


async def _session(traffic: Traffic) -> None:
    session = await traffic.begin_session()
    await traffic.reads_in(session)
    headers = traffic.headers(LEGACY, {}) | session
    async with traffic.http.delete(traffic.service.server.url, headers=headers) as response:
        expect(response.status < 300, response.status)


async def _http_sse(traffic: Traffic) -> None:
    """The transport of 2024: a stream, and messages to the address that it tells; reloads of tools do not end it."""
    headers = {"Authorization": f"Bearer {traffic.token}", "Accept": "text/event-stream"}
    async with traffic.http.get(urljoin(traffic.service.server.url, "/sse"), headers=headers) as stream:
        address = urljoin(traffic.service.server.url, await _data(stream))
        hello = gateways.request(_SSE, "initialize", {"protocolVersion": _SSE, **_HELLO})
        for body in (hello, gateways.body(_SSE, "customer_by_id", {"id": 7})):
            async with traffic.sent(body, _SSE, address) as response:
                expect(response.status == 202, response.status)
            while "id" not in (message := json.loads(await _data(stream))):
                pass  # told of changed tools
        expect("Customer 7" in str(message), message)


async def _listen(traffic: Traffic) -> None:
    """Listens for a while, and leaves."""
    body = gateways.request(MODERN, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    async with traffic.sent(body) as response:
        expect("acknowledged" in (text := await _data(response)), text)
        await asyncio.sleep(traffic._dice.random() * 2)


async def _data(stream: aiohttp.ClientResponse) -> str:
    """The data of the next event."""
    while line := (await stream.content.readline()).decode():
        if line.startswith("data: "):
            return line[6:].strip()
    raise Wrong("the stream ended")


KINDS: Final[Mapping[str, tuple[Kind, float]]] = {
    "read": (_read, 40),
    "read in one long session": (_read_in_session, 10),
    "read, answered as a stream": (_stream, 8),
    "list of tools": (_list, 4),
    "which configuration": (_generation, 4),
    "write with a new key": (_write, 8),
    "idempotent write, twice": (_write_once, 3),
    "write that breaks a constraint": (_write_again, 2),
    "invalid argument": (_mistake, 3),
    "unknown tool": (_unknown_tool, 2),
    "malformed JSON": (_malformed, 2),
    "forged token": (_stranger, 5),
    "statement that is too slow": (_timeout, 2),
    "client that leaves in mid-query": (_disconnect, 2),
    "token renewed": (_renewal, 2),
    "session from start to end": (_session, 1),
    "HTTP+SSE from start to end": (_http_sse, 1),
    "listener that comes and goes": (_listen, 1),
}
"""How often each kind is sent, relative to the others."""
