"""MCP over standard input and output: one client, newline-delimited JSON, every protocol era.

The request path is that of HTTP: identity, rate, the SDK's judge, the tool. A
message whose `_meta` names a protocol version is of 2026-07-28 or later; any
other is of the revision that `initialize` agreed on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp_types import PROTOCOL_VERSION_META_KEY

from gateway.context import Call
from gateway.errors import ProtocolError, RateLimited, Refused, Wire, to_wire
from gateway.server import mcp
from gateway.server.door import new_correlation_id
from gateway.server.ending import cut_off, note_failure, note_result
from gateway.server.endpoint import Endpoint, find_endpoint
from gateway.server.events import Kind
from gateway.server.front import Front
from gateway.server.hosted import McpServer
from gateway.server.jsonrpc import (
    INVALID_REQUEST,
    Message,
    RequestId,
    error_bytes,
    notification_bytes,
    parse,
    result_bytes,
)
from gateway.server.listener import LAST_WORD
from gateway.server.live import Live
from gateway.server.local import Identity
from gateway.server.outlet import reporter
from gateway.server.pipe import Pipe
from gateway.server.pipe_way import Way
from gateway.server.record import Record
from gateway.server.transport import ASSUMED_VERSION
from gateway.telemetry import logs
from gateway.telemetry.methods import known_method
from gateway.tools.comments import user_hash

MAX_REQUESTS: Final = 128
"""Requests of the client under way at once."""
_POLL: Final = 0.1
_LONG: Final = 3600.0
_log: Final = logging.getLogger("gateway.server")


@dataclass(frozen=True, slots=True)
class _Place:
    """The door in the configuration of the moment."""

    front: Front
    endpoint: Endpoint
    server: McpServer


class Conversation:
    """Serves one client until it closes its side.

    Args:
        pipe: the client.
        live: the configuration in force, one after the other.
        base_url: the listener's, which tokens may be for.
        toolset: whose tools are served; all of them when empty.
        identity: who the client is.

    Attributes:
        live: as given.
    """

    def __init__(self, pipe: Pipe, live: Live, base_url: str, toolset: str, identity: Identity) -> None:
        self.live = live
        self._pipe = pipe
        self._base_url = base_url
        self._toolset = toolset
        self._identity = identity
        self._announcements = live.current.snapshot.listening.announcements
        self._place: _Place | None = None
        self._version = ASSUMED_VERSION
        self._is_greeted = False
        self._is_hurried = False
        self._running: dict[RequestId, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Read, serve, answer; returns when the client has closed its side and what it asked for is answered."""
        async with asyncio.TaskGroup() as group:
            teller = group.create_task(self._tell_of_changes())
            async for line in self._pipe.lines():
                await self._receive(line, group)
            teller.cancel()
            self._announcements.close()
            await self._finish()

    async def _receive(self, line: bytes | None, group: asyncio.TaskGroup) -> None:
        try:
            if line is None:
                raise ProtocolError(INVALID_REQUEST, f"The message is larger than {self._pipe.limit} bytes.")
            message = parse(line)
            if message.id is None:
                return self._take_note(message)
            if message.id in self._running:
                raise ProtocolError(INVALID_REQUEST, "A request with this id is still running.")
            if len(self._running) >= MAX_REQUESTS:
                text = f"You have {MAX_REQUESTS} requests running, and no more at once; let one end first."
                return await self._write(_error(message.id, to_wire(RateLimited(1.0, "requests", text))))
        except ProtocolError as error:
            return await self._write(_error(None, to_wire(error)))
        task = group.create_task(self._serve(message))
        self._running[message.id] = task
        task.add_done_callback(partial(self._forget, message.id))
        return None

    def _forget(self, identifier: RequestId, _: asyncio.Task[None]) -> None:
        del self._running[identifier]

    def _take_note(self, message: Message) -> None:
        """Act on what a notification asks for; a cancelled request gets no answer."""
        if message.method == "notifications/initialized":
            self._is_greeted = True
        elif message.method == "notifications/cancelled":
            identifier = (message.params or {}).get("requestId")
            if isinstance(identifier, str | int) and not isinstance(identifier, bool) and identifier in self._running:
                self._running[identifier].cancel()

    async def _serve(self, message: Message) -> None:
        correlation_id = new_correlation_id()
        logs.correlation_id.set(correlation_id)
        record = Record("", "local", method=known_method(message.method))
        watch, front = self.live.watch, self.live.current
        trace = watch.begin({})
        front.enter()
        try:
            body = await self._answer(front, message, correlation_id, record)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        finally:
            front.leave()
            watch.end(record, trace, correlation_id, "stdio")
        await self._write(body)

    async def _answer(self, front: Front, message: Message, correlation_id: str, record: Record) -> bytes:
        exchange: mcp.Exchange | None = None
        task = asyncio.current_task()
        front.background.enter(task)
        try:
            place = self._find_place(front)
            exchange = await self._begin(place, message, correlation_id, record)
            version = self._version_of(message, exchange.is_modern)
            result = await mcp.handle(place.server, exchange, message, version)
            self._note(message, result)
            note_result(exchange, record)
            return result_bytes(message.id, result)
        except asyncio.CancelledError:
            if not front.background.is_over:
                raise
            return _error(message.id, note_failure(cut_off(exchange), message, exchange, record))
        except Exception as error:  # noqa: BLE001 - whatever failed, the client gets an answer that says nothing of it
            return _error(message.id, note_failure(error, message, exchange, record))
        finally:
            front.background.leave(task)
            record.tool = exchange.tool if exchange is not None else ""

    async def _begin(self, place: _Place, message: Message, correlation_id: str, record: Record) -> mcp.Exchange:
        """Let the client in, with what it asks."""
        snapshot, deadline = place.front.snapshot, asyncio.get_running_loop().time()
        principal = await self._identity.principal(snapshot, place.endpoint)
        record.client = principal.client_id or user_hash(principal)
        await snapshot.admission.admit(principal)
        way = Way(self._pipe)
        deadline += snapshot.settings.server.call_timeout
        call = Call(correlation_id, principal, deadline, reporter(way, message), record.marks)
        return mcp.Exchange(
            call,
            snapshot,
            place.endpoint.catalog(snapshot),
            way,
            place.front.background,
            snapshot.admission,
            snapshot.listening,
            _is_modern(message),
            address=record.address,
        )

    def _find_place(self, front: Front) -> _Place:
        """The door as the configuration has it, looked for once in each.

        Raises:
            Refused: it has none of this name any more.
        """
        if self._place is None or self._place.front is not front:
            endpoint = find_endpoint(front.snapshot.settings, self._base_url, self._toolset)
            if endpoint is None:
                raise Refused(404, "This toolset is not configured any more; start with another one.")
            self._place = _Place(front, endpoint, mcp.build_server(endpoint.about, tells_of_changes=True))
        return self._place

    def _version_of(self, message: Message, is_modern: bool) -> str:
        if not is_modern:
            return self._version
        route = classify_inbound_request(message.body)
        if isinstance(route, InboundLadderRejection):
            raise ProtocolError(route.code, route.message, data=route.data)
        return route.protocol_version

    def _note(self, message: Message, result: Mapping[str, Any]) -> None:
        """Remember which revision was agreed on."""
        if message.method == "initialize":
            self._version = result["protocolVersion"]

    async def _tell_of_changes(self) -> None:
        """Clients of the handshake era are told without having asked, as their revisions have it."""
        listener = self._announcements.join((Kind.TOOLS,))
        try:
            while not listener.is_ended:
                if await listener.take(_LONG) is not None and self._is_greeted:
                    self._pipe.notify(notification_bytes("notifications/tools/list_changed", {}))
        finally:
            self._announcements.leave(listener)

    async def _write(self, body: bytes) -> None:
        try:
            await self._pipe.write(body)
        except OSError as error:
            _log.info("the client reads no more", extra={"reason": error.strerror})

    def hurry(self) -> None:
        """Stop reading, and wait for nothing that still runs."""
        self._is_hurried = True
        self._pipe.stop()

    def _may_wait(self) -> bool:
        return bool(self._running) and not self._is_hurried and not self._pipe.is_deaf

    async def _finish(self) -> None:
        """Answer what runs, as long as somebody reads it and within the grace; then say that it is cut off."""
        loop = asyncio.get_running_loop()
        grace = self.live.current.snapshot.settings.server.shutdown_grace
        until = loop.time() + grace
        self.live.stop(grace)
        while self._may_wait() and loop.time() < until:
            await asyncio.wait(self._running.values(), timeout=_POLL)
        self.live.cut()
        if self._running and not self._pipe.is_deaf:
            await asyncio.wait(self._running.values(), timeout=LAST_WORD)
        for task in list(self._running.values()):
            task.cancel()


def _is_modern(message: Message) -> bool:
    meta = (message.params or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


def _error(identifier: RequestId | None, wire: Wire) -> bytes:
    return error_bytes(identifier, wire.code, wire.message, wire.data)
