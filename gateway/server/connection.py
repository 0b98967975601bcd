"""One HTTP connection: aiohttp's own, with a fence around the request's head.

What is checked here is what aiohttp leaves open or answers with a traceback in
the log: how long a head may take, how large it may be in all, how slowly an
answer may be read. A request is between `begin` and `finish_response`; outside
of these the connection is idle.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from gateway.errors import to_wire
from gateway.server.crowd import Crowd
from gateway.server.headers import SECURITY
from gateway.server.jsonrpc import error_bytes
from gateway.telemetry import logs

MAX_LINE: Final = 8 * 1024
"""Bytes of a request line."""
MAX_HEAD: Final = 32 * 1024
"""Bytes of a whole head; a token may be 16 KiB of it."""
MAX_FIELDS: Final = 100
"""Header fields of one request."""
LINGER: Final = 3.0
"""Seconds for which a refused sender is still listened to, so that it can read why before the connection breaks."""
MAX_UNWANTED: Final = 32 << 20
"""Bytes that are thrown away for such a sender."""
KEEP_ALIVE: Final = 75.0
"""Seconds that an idle connection stays open; longer than the usual proxy keeps it."""
_WORTH_READING: Final = 64 * 1024
"""Bytes of an unwanted body up to which reading it is cheaper than a new connection."""
_FIXED: Final = "".join(f"{name}: {value}\r\n" for name, value in SECURITY)


class Connection(web.RequestHandler):
    """A connection that is counted, timed and bounded.

    Args:
        server: aiohttp's server of the application.
        crowd: the connections of the listener.
    """

    __slots__ = (
        "_fields",
        "_is_busy",
        "_is_refused",
        "_seam",
        "_size",
        "_unwanted",
        "client_certificate",
        "crowd",
        "has_socket",
        "is_timed",
        "was_made",
    )

    def __init__(self, server: web.Server, crowd: Crowd) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEP_ALIVE,
            # The fence before these is tighter, and answers in other words; they are for what is pipelined.
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEAD,
            max_headers=MAX_FIELDS,
            lingering_time=LINGER,
            # Compressed bodies are refused; nothing is to be unpacked before that.
            auto_decompress=False,
            access_log=cast("Any", None),
        )
        self.crowd = crowd
        self._is_busy = self._is_refused = False
        self._unwanted = -1
        self.is_timed = self.was_made = self.has_socket = False
        self.client_certificate = ""
        self._begin_head()

    def _begin_head(self) -> None:
        self._size = self._fields = 0
        self._seam = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head."""
        self.was_made = True
        super().connection_made(transport)
        self.crowd.enter(self)
        self.client_certificate = _subject(transport)
        self.crowd.wait(self, self.abort)
        self.crowd.expect(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Be counted no longer."""
        self.crowd.leave(self)
        super().connection_lost(exc)

    def release(self, heir: asyncio.Protocol) -> asyncio.Transport:
        """Give the transport away in the middle of an answer; for aiohttp it is then as if the client had left.

        Raises:
            ConnectionResetError: it has.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self.transport = None
        transport.set_protocol(heir)
        if not transport.is_reading():
            transport.resume_reading()
        self.connection_lost(None)
        return transport

    def data_received(self, data: bytes) -> None:
        """Hand on what arrived, unless it makes the head too large."""
        if self._unwanted >= 0 and self._is_too_much(len(data)):
            return
        if not self._is_busy and self._size >= 0:
            self.crowd.expect(self)
            if status := self._measure(data):
                self.crowd.noise.note("malformed requests refused", reason=status.phrase, address=self.address)
                self.turn_away(status)
                return
        super().data_received(data)

    def _is_too_much(self, size: int) -> bool:
        """Whether bytes that come after the answer to them are of no use any more; a flood of them ends it."""
        self._unwanted += size
        if self._unwanted > MAX_UNWANTED:
            self.abort()
            return True
        return self._is_refused

    def _measure(self, data: bytes) -> HTTPStatus | None:
        """Count the bytes of a head; returns what to refuse it with. A size of -1 says that the head is complete."""
        if not self._size:
            # Empty lines before a request line are skipped (RFC 9112 section 2.2).
            data = data.lstrip(b"\r\n")
        joined = self._seam + data
        end = joined.find(b"\r\n\r\n")
        head = joined if end < 0 else joined[:end]
        is_first_line = not self._fields
        self._fields += head.count(b"\n", len(self._seam) if self._seam.endswith(b"\n") else 0)
        self._size += len(head) - len(self._seam)
        if is_first_line:
            line = self._size if not self._fields else self._size - len(head) + head.find(b"\n")
            if line > MAX_LINE:
                return HTTPStatus.REQUEST_URI_TOO_LONG
        if self._size > MAX_HEAD or self._fields > MAX_FIELDS:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._seam = joined[-3:]
        if end >= 0:
            self._size = -1
        return None

    def begin(self) -> None:
        """A request's head is complete; its handler runs."""
        self._is_busy = True
        self.crowd.work(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; then rest, as soon as the whole body has arrived."""
        content = request.content
        if not content.is_eof() and not 0 < (request.content_length or 0) <= _WORTH_READING:
            resp.force_close()
        try:
            outcome = await super().finish_response(request, resp, start_time)
        except RuntimeError as error:
            if self._is_gone(error):
                raise ConnectionResetError from error
            raise
        if content.is_eof():
            self._rest()
        else:
            self._unwanted = 0
            self.crowd.rest(self)
            content.on_eof(self._rest)
        return outcome

    def _rest(self) -> None:
        if self._is_busy and self.transport is not None:
            self._is_busy, self._unwanted = False, -1
            self._begin_head()
            self.crowd.rest(self)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on after a pause; aiohttp asks for it with each body that was read, and mostly there was none."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self.crowd.stall(self, self.unsent)

    def resume_writing(self) -> None:
        """It has caught up."""
        self.crowd.flow(self)
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP with a plain 400 that repeats nothing of it, and with few lines in the log."""
        if not isinstance(exc, HttpProcessingError):
            if exc is not None and self._is_gone(exc):
                raise ConnectionResetError from exc
            super().handle_error(request, status, exc, message)  # logs it, and raises where an answer has begun
            return _fault()
        self.crowd.noise.note("malformed requests refused", reason=type(exc).__name__, address=self.address)
        response = web.Response(status=400, text="Bad Request\n", headers=SECURITY)
        response.force_close()
        return response

    def _is_gone(self, error: BaseException) -> bool:
        """Whether a write failed because the connection is gone, of which uvloop speaks as a RuntimeError."""
        if not isinstance(error, RuntimeError | ConnectionError):
            return False
        try:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(b"")
                return False
        except RuntimeError:
            pass
        return True

    def turn_away(self, status: HTTPStatus) -> None:
        """Answer without a request, and take nothing more; the sender gets a moment to read it."""
        transport = self.transport
        self._is_refused, self._unwanted = True, 0
        if transport is None:
            return
        body = f"{status.phrase}\n"
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\n{_FIXED}Content-Type: text/plain\r\nConnection: close\r\n"
        transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER, self.abort)

    def expire(self) -> None:
        """The head did not come in time: say so to who has begun one, and hang up on who has not."""
        if self._size and not self._is_refused:
            self.crowd.noise.note("slow requests refused", address=self.address)
            self.turn_away(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once; harmless on what is closed."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    @property
    def address(self) -> str:
        """The address at the other end."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if isinstance(peer, tuple) else ""


def client_certificate(request: web.BaseRequest) -> str:
    """The subject of the certificate that the request's connection began with, "" where there is none."""
    connection = request.protocol
    return connection.client_certificate if isinstance(connection, Connection) else ""


def _subject(transport: asyncio.BaseTransport) -> str:
    """The subject of the client's certificate (RFC 4514, in reading order), "" where there is none."""
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return ""
    return ",".join(f"{name}={value}" for part in certificate.get("subject", ()) for name, value in part)


def _fault() -> web.Response:
    """What a client learns of a fault of ours that nothing else answered: where to ask."""
    wire = to_wire(RuntimeError())
    headers = {**dict(SECURITY), "X-Request-ID": logs.correlation_id.get()}
    response = web.Response(
        status=wire.status,
        body=error_bytes(None, wire.code, wire.message),
        content_type="application/json",
        headers=headers,
    )
    response.force_close()
    return response
