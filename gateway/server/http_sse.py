"""HTTP+SSE of 2024-11-05: one GET that lasts as long as the session, and POSTs that are answered on it.

Nothing can be resumed here: when the stream ends, so does the session and what runs in it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.config.features import FeatureSettings
from gateway.context import Call, Principal
from gateway.server.endpoint import Endpoint
from gateway.server.headers import Headers
from gateway.server.jsonrpc import Message, RequestId, result_bytes
from gateway.server.outlet import reporter
from gateway.server.record import Record
from gateway.server.sessions import Owner, Session, Sessions, owner_of
from gateway.server.sessions_http import expiry, with_changes
from gateway.server.sessions_reader import Reader, frame
from gateway.server.sessions_work import Brief, Work
from gateway.server.snapshot import Snapshot
from gateway.server.transport import Outcome, Transport, receive

VERSION: Final = "2024-11-05"
_CANCELLED: Final = "notifications/cancelled"


def stream_path(toolset: str) -> str:
    """Where a door's streams are opened; "" is the whole."""
    return f"/sse/{toolset}" if toolset else "/sse"


def messages_path(toolset: str) -> str:
    """Where messages to them are posted."""
    return f"/messages/{toolset}" if toolset else "/messages"


class SseSession(Session, Brief):
    """A session of HTTP+SSE, 2024-11-05: it lives as long as its one stream.

    Attributes:
        reader: the stream.
    """

    __slots__ = ("_is_stopping", "reader")

    def __init__(self, owner: Owner, path: str, version: str) -> None:
        super().__init__(owner, path, version)
        self.reader = Reader()
        self._is_stopping = False

    @property
    def is_connected(self) -> bool:
        """Always: there is no session without its stream."""
        return True

    def is_wanted(self, features: FeatureSettings) -> bool:
        """Whether HTTP+SSE is on."""
        return features.http_sse

    def announce(self, message: bytes) -> None:
        """Say it on the stream, unless the client does not keep up."""
        if not self.reader.is_behind:
            self.reader.push(frame(message))

    def notify(self, message: bytes) -> None:
        """Send a notification of a request; dropped while the client does not keep up."""
        self.announce(message)

    def end_streams(self) -> None:
        """End the stream once nothing runs."""
        self._is_stopping = True
        if not self._running:
            self.reader.end()

    def _close(self) -> None:
        self.reader.end()

    def _finished(self, identifier: RequestId) -> None:
        super()._finished(identifier)
        if self._is_stopping:
            self.end_streams()


class SseStreams:
    """Serves the GET of one door: begins a session, and ends it with its stream."""

    methods: Final = frozenset({"GET"})

    def __init__(self, endpoint: Endpoint, sessions: Sessions, headers: Headers) -> None:
        self._toolset = endpoint.toolset
        self._sessions = sessions
        self._headers = headers

    async def serve(
        self, request: web.BaseRequest, snapshot: Snapshot, principal: Principal, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        """A stream, from the address for messages on; never longer than the tokens that come with it.

        Raises:
            GatewayError: no session may begin.
        """
        session = SseSession(owner_of(principal), messages_path(self._toolset), VERSION)
        self._sessions.enter(session)
        session.reader.until = expiry(principal, snapshot.settings)
        session.reader.push(f"event: endpoint\ndata: {session.path}?sessionId={session.id}\n\n".encode())

        def over() -> None:
            record.outcome = session.reader.reason or record.outcome
            self._sessions.end(session)
            record.end()

        record.goes_on, record.status = True, 200
        return await session.reader.open(request, {"X-Request-ID": correlation_id}, self._headers, over)


class SseMessages:
    """Serves the POSTs of one door.

    Args:
        endpoint: the door.
        stateless: runs each request.
        sessions: of the whole process.
    """

    methods: Final = frozenset({"POST"})

    def __init__(self, endpoint: Endpoint, stateless: Transport, sessions: Sessions) -> None:
        self._path = messages_path(endpoint.toolset)
        self._stateless = stateless
        self._sessions = sessions

    async def serve(
        self, request: web.BaseRequest, snapshot: Snapshot, principal: Principal, correlation_id: str, record: Record
    ) -> web.StreamResponse:
        """One message; 202, and what comes of it on the stream.

        Raises:
            GatewayError: for everything that is refused before the message is understood.
        """
        session = self._sessions.find(request.query.getall("sessionId", []), principal, self._path)
        if not isinstance(session, SseSession):
            raise TypeError("a session of another transport has the path of this one")
        # Who comes with a new token keeps the session: no such client can take up its stream again.
        session.reader.until = max(session.reader.until, expiry(principal, snapshot.settings))
        message, deadline = await receive(request, snapshot, record)
        if message.id is not None:
            call = Call(correlation_id, principal, deadline, reporter(session, message), record.marks)
            record.status, record.goes_on = 202, True
            try:
                self._begin(session, message, call, snapshot, record)
            except BaseException:
                record.goes_on = False
                raise
        elif message.method == _CANCELLED:
            session.cancel((message.params or {}).get("requestId"))
        return web.Response(status=202, text="Accepted", headers={"X-Request-ID": correlation_id})

    def _begin(self, session: SseSession, message: Message, call: Call, snapshot: Snapshot, record: Record) -> None:
        exchange = self._stateless.exchange(call, snapshot, session, record, is_modern=False)

        def deliver(outcome: Outcome) -> None:
            """The answer, on the stream; nothing when the client said that it wants none."""
            if message.method == "initialize" and outcome.result is not None:
                session.version = str(outcome.result["protocolVersion"])
                session.reader.push(frame(result_bytes(message.id, with_changes(outcome.result))))
            elif not outcome.is_cancelled:
                session.reader.push(frame(outcome.body))

        identifier = message.id
        if identifier is None:
            raise TypeError("a notification has no answer")
        run = lambda: self._stateless.run(exchange, message, record, lambda: session.version)  # noqa: E731
        work = Work(identifier, run, record, deliver)
        session.begin(identifier, work)
        self._stateless.adopt(work.task)
