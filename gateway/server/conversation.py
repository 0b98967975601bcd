"""MCP over standard input and output: one client, newline-delimited JSON, every protocol era.

The request path is that of HTTP: identity, rate, the SDK's judge, the tool. A
message whose `_meta` names a protocol version is of 2026-07-28 or later; any
other is of the revision that `initialize` agreed on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp_types import PROTOCOL_VERSION_META_KEY

from gateway.context import Call
from gateway.errors import GatewayError, ProtocolError, RateLimited, to_wire
from gateway.server import mcp
from gateway.server.auditing import note_denial
from gateway.server.background import Background
from gateway.server.door import new_correlation_id
from gateway.server.endpoint import Endpoint
from gateway.server.events import Kind
from gateway.server.jsonrpc import (
    INVALID_REQUEST,
    Message,
    RequestId,
    error_bytes,
    notification_bytes,
    parse,
    result_bytes,
)
from gateway.server.local import Identity
from gateway.server.pipe import Pipe
from gateway.server.record import Record
from gateway.server.snapshot import Snapshot
from gateway.server.transport import ASSUMED_VERSION, reporter
from gateway.server.watch import Watch
from gateway.telemetry import logs
from gateway.telemetry.methods import known_method
from gateway.tools.comments import user_hash

MAX_REQUESTS: Final = 128
"""Requests of the client under way at once."""
_POLL: Final = 0.1
_LONG: Final = 3600.0
_log: Final = logging.getLogger("gateway.server")


class _Line:
    """The way back of one request: the pipe, which all of them share."""

    def __init__(self, pipe: Pipe) -> None:
        self.notify = pipe.notify
        self.tell = pipe.write

    async def keep_alive(self) -> None:
        """A pipe needs none."""


class Conversation:
    """Serves one client until it closes its side.

    Args:
        pipe: the client.
        snapshot: what is served.
        endpoint: the door.
        identity: who the client is.
        background: where a write goes on that was cancelled.
        watch: is told of every request.
    """

    def __init__(
        self,
        pipe: Pipe,
        snapshot: Snapshot,
        endpoint: Endpoint,
        identity: Identity,
        background: Background,
        watch: Watch,
    ) -> None:
        self._pipe = pipe
        self._snapshot = snapshot
        self._endpoint = endpoint
        self._identity = identity
        self._background = background
        self._watch = watch
        self._admission = snapshot.admission
        self._listening = snapshot.listening
        self._announcements = snapshot.listening.announcements
        self._server = mcp.build_server(endpoint.about, tells_of_changes=True)
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
                limit = self._snapshot.settings.server.max_request_bytes
                raise ProtocolError(INVALID_REQUEST, f"The message is larger than {limit} bytes.")
            message = parse(line)
            if message.id is None:
                return self._take_note(message)
            if message.id in self._running:
                raise ProtocolError(INVALID_REQUEST, "A request with this id is still running.")
            if len(self._running) >= MAX_REQUESTS:
                text = f"You have {MAX_REQUESTS} requests running, and no more at once; let one end first."
                return await self._write(_error(message.id, RateLimited(1.0, "requests", text)))
        except ProtocolError as error:
            return await self._write(_error(None, error))
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
        trace = self._watch.begin({})
        try:
            body = await self._answer(message, correlation_id, record)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        finally:
            self._watch.end(record, trace, correlation_id, "stdio")
        await self._write(body)

    async def _answer(self, message: Message, correlation_id: str, record: Record) -> bytes:
        snapshot, deadline = self._snapshot, asyncio.get_running_loop().time()
        exchange: mcp.Exchange | None = None
        try:
            principal = await self._identity.principal(snapshot)
            record.client = principal.client_id or user_hash(principal)
            await self._admission.admit(principal)
            outlet, is_modern = _Line(self._pipe), _is_modern(message)
            deadline += snapshot.settings.server.call_timeout
            call = Call(correlation_id, principal, deadline, reporter(outlet, message), record.marks)
            catalog, admission = self._endpoint.catalog(snapshot), self._admission
            exchange = mcp.Exchange(
                call, snapshot, catalog, outlet, self._background, admission, self._listening, is_modern
            )
            exchange.address = record.address
            result = await mcp.handle(self._server, exchange, message, self._version_of(message, is_modern))
            self._note(message, result)
            record.tool = exchange.tool
            if exchange.result is not None:
                record.outcome, record.rows = exchange.result.code or "ok", exchange.result.row_count
                record.detail = exchange.result.detail
            return result_bytes(message.id, result)
        except Exception as error:  # noqa: BLE001 - whatever failed, the client gets an answer that says nothing of it
            if not isinstance(error, GatewayError):
                _log.exception("request failed inside the gateway")
            if exchange is not None:
                note_denial(error, exchange, message)
            record.outcome, record.detail = str(to_wire(error).code), getattr(error, "detail", "")
            record.limit = error.limit if isinstance(error, RateLimited) else ""
            return _error(message.id, error)

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
        """Answer what runs, as long as somebody reads it and within the grace; then cancel it."""
        loop = asyncio.get_running_loop()
        self._background.deadline = loop.time() + self._snapshot.settings.server.shutdown_grace
        while self._may_wait() and loop.time() < self._background.deadline:
            await asyncio.wait(self._running.values(), timeout=_POLL)
        for task in list(self._running.values()):
            task.cancel()


def _is_modern(message: Message) -> bool:
    meta = (message.params or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta


def _error(identifier: RequestId | None, error: BaseException) -> bytes:
    wire = to_wire(error)
    return error_bytes(identifier, wire.code, wire.message, wire.data)
