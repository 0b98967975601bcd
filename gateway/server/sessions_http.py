"""Streamable HTTP with sessions, 2025-03-26 to 2025-11-25: POST, GET and DELETE of one door.

A request runs as a task of its session. While its client may name an event of
its stream, it can come back for the rest, and the request goes on without it;
before that, a client that leaves has nothing to come back to, and the request
is stopped. Requests of 2026-07-28 are stateless here as everywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from gateway.config.models import GatewaySettings
from gateway.context import Call, Principal
from gateway.errors import Refused
from gateway.server.endpoint import Endpoint
from gateway.server.headers import Headers
from gateway.server.jsonrpc import Message, result_bytes
from gateway.server.outlet import reporter
from gateway.server.record import Record
from gateway.server.sessions import Sessions, StreamableSession, owner_of
from gateway.server.sessions_events import Stream
from gateway.server.sessions_reader import Reader
from gateway.server.sessions_work import Brief, Work
from gateway.server.snapshot import Snapshot
from gateway.server.transport import Outcome, Transport, accepts, receive

SESSION_ID: Final = "Mcp-Session-Id"
STREAM_AFTER: Final = 1.0
"""Seconds after which an answer becomes a stream, which its client can resume."""
_LAST_EVENT_ID: Final = "Last-Event-ID"
_CANCELLED: Final = "notifications/cancelled"
_NO_SESSION: Final = "Mcp-Session-Id is missing; start a session with initialize and send its id with each request."
_AGAIN: Final = "This session is initialized already; send initialize without Mcp-Session-Id to start another."


class Reply(Brief):
    """The answer to one request: undecided, then JSON, or a stream of the session from the first notification on."""

    __slots__ = ("_may_stream", "_session", "decided", "outcome", "reader", "stream")

    def __init__(self, session: StreamableSession, *, may_stream: bool) -> None:
        self.outcome: Outcome | None = None
        self.stream: Stream | None = None
        self.reader: Reader | None = None
        self.decided = asyncio.Event()
        self._session = session
        self._may_stream = may_stream

    @property
    def is_resumable(self) -> bool:
        """Whether the client may come back for the rest."""
        return self.stream is not None and self._session.log.is_resumable(self.stream)

    def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result; dropped where no stream may be."""
        if self._may_stream:
            self._session.log.notify(self.open(), message)

    def open(self) -> Stream:
        """Make it a stream."""
        if self.stream is None:
            self.stream, self.reader = self._session.log.open()
            self.decided.set()
        return self.stream

    def deliver(self, outcome: Outcome) -> None:
        """Take the result or error."""
        self.outcome = outcome
        if self.stream is not None:
            self._session.log.complete(self.stream, outcome.body)
        self.decided.set()

    def response(self, headers: Mapping[str, str]) -> web.Response:
        """The answer as JSON."""
        outcome = self.outcome
        if outcome is None:
            raise RuntimeError("an answer was decided on that is neither JSON nor a stream")
        said = {**headers, **(outcome.headers or {})}
        return web.Response(body=outcome.body, status=outcome.status, content_type="application/json", headers=said)

    async def until_decided(self) -> None:
        """Wait until it is known what the answer will be; a stream when it takes long."""
        try:
            async with asyncio.timeout(STREAM_AFTER if self._may_stream else None):
                await self.decided.wait()
        except TimeoutError:
            if self.outcome is None:  # else it came in the same moment, and on a stream it would never be said
                self.open()


class SessionTransport:
    """Serves admitted requests of one door.

    Args:
        endpoint: the door.
        stateless: serves what knows no sessions, and runs each request.
        sessions: of the whole process.
        headers: what a stream carries as every answer does.
    """

    methods: Final = frozenset({"POST", "GET", "DELETE"})

    def __init__(self, endpoint: Endpoint, stateless: Transport, sessions: Sessions, headers: Headers) -> None:
        self._endpoint = endpoint
        self._stateless = stateless
        self._sessions = sessions
        self._headers = headers

    async def serve(
        self, request: web.BaseRequest, snapshot: Snapshot, principal: Principal, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        """One request, with or without a session.

        Raises:
            GatewayError: for everything that is refused before the message is understood.
        """
        version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
        if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            if request.method != "POST":
                raise Refused(405, f"{request.method} is for sessions of revisions before 2026-07-28.")
            return await self._stateless.serve(request, snapshot, principal, correlation_id, record)
        session = self._session(request, principal)
        headers = {"X-Request-ID": correlation_id}
        if request.method == "POST":
            message, deadline = await receive(request, snapshot, record)
            if session is None:
                call = Call(correlation_id, principal, deadline, marks=record.marks)
                return await self._initialize(message, call, snapshot, record)
            return await self._post(request, session, message, snapshot, principal, deadline, headers, record)
        if session is None:
            raise Refused(400, _NO_SESSION)
        if request.method == "DELETE":
            self._sessions.end(session)
            return web.Response(status=204, headers=headers)
        return await self._get(request, session, principal, snapshot.settings, headers, record)

    def _session(self, request: web.BaseRequest, principal: Principal) -> StreamableSession | None:
        """The session that a request names, None when it names none; its revision counts, whatever a header says."""
        identifiers = request.headers.getall(SESSION_ID, [])
        if not identifiers:
            return None
        session = self._sessions.find(identifiers, principal, self._endpoint.path)
        if not isinstance(session, StreamableSession):
            raise TypeError("a session of another transport has the path of this one")
        return session

    async def _initialize(self, message: Message, call: Call, snapshot: Snapshot, record: Record) -> web.Response:
        """Begin a session; the answer names it."""
        if message.method != "initialize" or message.id is None:
            raise Refused(400, _NO_SESSION)
        exchange = self._stateless.exchange(call, snapshot, _Nowhere(), record, is_modern=False)
        outcome = await self._stateless.run(exchange, message, record, lambda: HANDSHAKE_PROTOCOL_VERSIONS[-1])
        headers = {"X-Request-ID": call.correlation_id, **(outcome.headers or {})}
        body = outcome.body
        if outcome.result is not None:
            version = str(outcome.result["protocolVersion"])
            session = StreamableSession(owner_of(call.principal), self._endpoint.path, version, self._sessions.budget)
            self._sessions.enter(session)
            headers[SESSION_ID] = session.id
            body = result_bytes(message.id, with_changes(outcome.result))
        return web.Response(body=body, status=outcome.status, content_type="application/json", headers=headers)

    async def _post(
        self,
        request: web.BaseRequest,
        session: StreamableSession,
        message: Message,
        snapshot: Snapshot,
        principal: Principal,
        deadline: float,
        headers: dict[str, str],
        record: Record,
    ) -> web.StreamResponse:
        """One message of a session."""
        if message.method == "initialize":
            raise Refused(400, _AGAIN)
        if message.id is None:
            if message.method == _CANCELLED:
                session.cancel((message.params or {}).get("requestId"))
            return web.Response(status=202, headers=headers)
        takes_json, takes_stream = accepts(request.headers.get(hdrs.ACCEPT, "*/*"))
        if not takes_json and not takes_stream:
            raise Refused(406, "Accept must include application/json, and text/event-stream for streams.")
        reply = Reply(session, may_stream=takes_stream)
        call = Call(headers["X-Request-ID"], principal, deadline, reporter(reply, message), record.marks)
        exchange = self._stateless.exchange(call, snapshot, reply, record, is_modern=False)
        work = Work(
            message.id,
            lambda: self._stateless.run(exchange, message, record, lambda: session.version),
            record,
            reply.deliver,
        )
        session.begin(message.id, work)
        self._stateless.adopt(work.task)

        def left() -> None:
            """The client reads no more: what runs goes on where it may come back, and has its log line by itself."""
            if reply.outcome is None and not reply.is_resumable:
                work.cancel()

        try:
            await reply.until_decided()
        except BaseException:
            left()
            raise
        if reply.reader is None:
            return reply.response(headers)
        if reply.outcome is None:
            record.goes_on, record.status = True, 200
            return await self._stream(request, session, reply.reader, headers, left)
        return await self._logged(request, session, reply.reader, headers, record)

    async def _get(
        self,
        request: web.BaseRequest,
        session: StreamableSession,
        principal: Principal,
        settings: GatewaySettings,
        headers: dict[str, str],
        record: Record,
    ) -> web.StreamResponse:
        """The standalone stream, or any stream again after the event that is named; never longer than the token."""
        _, takes_stream = accepts(request.headers.get(hdrs.ACCEPT, ""))
        if not takes_stream:
            raise Refused(406, "Accept must include text/event-stream.")
        last_event_id = request.headers.get(_LAST_EVENT_ID)
        reader = session.log.listen() if last_event_id is None else session.log.resume(last_event_id)
        reader.until = expiry(principal, settings)
        return await self._logged(request, session, reader, headers, record)

    async def _logged(
        self,
        request: web.BaseRequest,
        session: StreamableSession,
        reader: Reader,
        headers: dict[str, str],
        record: Record,
    ) -> web.StreamResponse:
        """A stream whose end is the end of the request in the log."""

        def gone() -> None:
            record.outcome = reader.reason or record.outcome
            record.end()

        record.goes_on, record.status = True, 200
        return await self._stream(request, session, reader, headers, gone)

    async def _stream(
        self,
        request: web.BaseRequest,
        session: StreamableSession,
        reader: Reader,
        headers: dict[str, str],
        gone: Callable[[], None],
    ) -> web.StreamResponse:
        def over() -> None:
            session.log.detach(reader)
            session.touched = asyncio.get_running_loop().time()
            gone()

        return await reader.open(request, headers, self._headers, over)


class _Nowhere(Brief):
    """Takes the notifications of a request that has none."""

    def notify(self, message: bytes) -> None:
        """Drop it."""


def with_changes(result: Mapping[str, Any]) -> dict[str, Any]:
    """What initialize answers where the client can be told that the tools changed."""
    capabilities = result["capabilities"]
    return {**result, "capabilities": {**capabilities, "tools": {**capabilities["tools"], "listChanged": True}}}


def expiry(principal: Principal, settings: GatewaySettings) -> float:
    """The event loop's time until which the caller's token is believed without being looked at again."""
    loop_time = asyncio.get_running_loop().time()
    if settings.auth.mode == "none":
        return float("inf")
    return loop_time + min(principal.expires_at - time.time(), settings.auth.cache.max_age)
