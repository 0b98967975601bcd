"""A client of sessions that tests can drive by hand: each request, each event, each broken connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from gateway.server.sessions import Session
from tests.world import Reply, World

HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
_READ_SECONDS: Final = 20.0


async def until(is_so: Callable[[], bool], limit: float) -> None:
    """Wait for a condition that has no event of its own."""
    async with asyncio.timeout(limit):
        while not is_so():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


async def settled(world: World) -> None:
    """Wait until everything was told that the start has to tell."""
    gateway = world.gateway
    sources = gateway.snapshot.sources.values()
    await until(lambda: all(source.is_up for source in sources), 5.0)
    await until(lambda: all(source._preparing is None or source._preparing.done() for source in sources), 5.0)
    await until(lambda: gateway.announcements._timer is None, 5.0)
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    id: str
    event: str
    data: str

    @property
    def message(self) -> dict[str, Any]:
        decoded = json.loads(self.data)
        assert isinstance(decoded, dict)
        return decoded


class Stream:
    """An open event stream."""

    def __init__(self, response: aiohttp.ClientResponse, request_id: Any = None) -> None:
        self.response = response
        self.request_id = request_id
        self.comments = 0

    async def event(self) -> Event:
        """The next event; EOFError at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(_READ_SECONDS):
            while line := (await self.response.content.readline()).decode():
                if line.startswith(":"):
                    self.comments += 1
                elif line != "\n":
                    name, _, value = line.rstrip("\n").partition(":")
                    fields[name] = value.removeprefix(" ")
                elif fields:
                    return Event(fields.get("id", ""), fields.get("event", "message"), fields.get("data", ""))
        raise EOFError

    async def rest(self, *, broken: bool = False) -> list[Event]:
        """Everything up to the end, which is a broken connection where that is expected."""
        events = []
        try:
            while True:
                events.append(await self.event())
        except EOFError:
            assert not broken
        except aiohttp.ClientError:
            assert broken
        return events


class Client:
    """One session, or none as yet."""

    def __init__(self, world: World, *, subject: str = "reader", version: str | None = "2025-11-25") -> None:
        self.world = world
        self.subject = subject
        self.version = version
        self.session: str | None = None
        self.url = world.gateway.url
        self.token = ""
        self._last_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.session is not None and self.session in self.world.gateway.sessions._all:
            await self.send(None, method="DELETE")

    @property
    def here(self) -> Session:
        """The session as the gateway has it."""
        assert self.session is not None
        return self.world.gateway.sessions._all[self.session]

    def headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        headers = {} if self.version is None else {"MCP-Protocol-Version": self.version}
        if self.session is not None:
            headers["Mcp-Session-Id"] = self.session
        return headers | dict(more or {})

    async def send(self, body: Any, *, method: str = "POST", headers: Mapping[str, str] | None = None) -> Reply:
        """One HTTP request."""
        sent = self.headers(headers)
        client: str | None = self.subject
        if self.token:
            client, sent = None, sent | {"Authorization": f"Bearer {self.token}"}
        return await self.world.send(body, client=client, method=method, headers=sent, url=self.url)

    async def signed(self) -> dict[str, str]:
        """The headers of a stream, with the token."""
        token = self.token or await self.world.credentials(self.subject).token()
        return self.headers({"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"})

    async def initialize(self) -> Reply:
        """Begin the session."""
        version, self.version = self.version, None
        hello = HELLO | {"protocolVersion": version}
        reply = await self.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
        assert reply.status == 200, reply.body
        self.version, self.session = version, reply.headers["Mcp-Session-Id"]
        return reply

    def _message(self, method: str, params: Mapping[str, Any] | None, identifier: Any) -> dict[str, Any]:
        self._last_id += 1
        message = {"jsonrpc": "2.0", "id": self._last_id if identifier is None else identifier, "method": method}
        return message if params is None else message | {"params": params}

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        identifier: Any = None,
    ) -> Reply:
        return await self.send(self._message(method, params, identifier), headers=headers)

    async def call(self, tool: str, **arguments: Any) -> Reply:
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> Reply:
        return await self.send({"jsonrpc": "2.0", "method": method, "params": params or {}})

    async def cancel(self, identifier: Any) -> Reply:
        return await self.notify("notifications/cancelled", {"requestId": identifier})

    @asynccontextmanager
    async def stream(self, tool: str, **arguments: Any) -> AsyncIterator[Stream]:
        """A call with progress, as a stream."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
        message = self._message("tools/call", params, None)
        async with self._open("POST", {}, message) as response:
            assert response.status == 200
            yield Stream(response, message["id"])

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Stream]:
        """The standalone stream."""
        async with self._open("GET", {}) as response:
            assert response.status == 200
            yield Stream(response)

    @asynccontextmanager
    async def resume(self, last_event_id: str) -> AsyncIterator[Stream]:
        """A stream again, after an event."""
        async with self._open("GET", {"Last-Event-ID": last_event_id}) as response:
            assert response.status == 200, await response.read()
            yield Stream(response)

    @asynccontextmanager
    async def _open(
        self, method: str, headers: Mapping[str, str], message: Mapping[str, Any] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = await self.signed() | dict(headers)
        async with self.world.http.request(method, self.url, json=message, headers=sent) as response:
            yield response
            response.close()
