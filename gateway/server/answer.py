"""One answer to one POST: JSON, or an SSE stream when there is progress to tell or the work runs long.

Nothing is written until one of the two is certain, so a call that fails before
any progress still gets its HTTP status (MCP 2026-07-28, Streamable HTTP).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway.errors import Refused
from gateway.resilience.alarms import Alarms
from gateway.server import stream
from gateway.server.headers import Headers
from gateway.server.jsonrpc import RequestId, result_bytes
from gateway.server.record import Record

STREAM_AFTER: Final = 5.0
"""Seconds of silence after which the answer becomes a stream, so that no proxy gives up on it."""
KEEP_ALIVE: Final = 15.0
"""Seconds between comment lines on a silent stream."""
MAX_PENDING: Final = 64
"""Progress lines kept for a slow reader; older ones are dropped, which keeps the sequence rising."""

_OK: Final = 200


def _event(message: bytes) -> bytes:
    return b"event: message\ndata: " + message + b"\n\n"


class Held:
    """A stream that outlives its request, and ends it in the log.

    Args:
        owner: who speaks on it.
        identifier: the request's id.
        record: the request's log line.
    """

    __slots__ = ("_has_ended", "_identifier", "_owner", "_record", "_stream")

    def __init__(self, owner: stream.Owner, identifier: RequestId | None, record: Record) -> None:
        self._owner = owner
        self._identifier = identifier
        self._record = record
        self._has_ended = False
        self._stream: stream.Stream | None = None

    async def open(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Take the request's connection over; see `stream.begin` for what this raises."""
        self._stream = await stream.begin(request, response, self)
        self._record.goes_on, self._record.status = True, response.status

    @property
    def is_writable(self) -> bool:
        """Whether the client has taken what was written."""
        return self._stream is not None and self._stream.is_writable

    def write(self, message: bytes) -> None:
        """Send a message."""
        if self._stream is not None:
            self._stream.write(_event(message))

    def keep_alive(self) -> None:
        """Send a comment."""
        if self._stream is not None:
            self._stream.write(stream.COMMENT)

    def end(self, result: Mapping[str, Any]) -> None:
        """Send the result, and close."""
        if self._stream is not None:
            self._has_ended = True
            self._stream.write(_event(result_bytes(self._identifier, result)))
            self._stream.end()

    async def until_ended(self) -> dict[str, Any]:
        """Wait in vain: whoever called has no connection any more, and is cancelled for it."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    def flow(self) -> None:
        """The client has taken everything."""
        self._owner.flow()

    def lost(self) -> None:
        """The connection is over."""
        self._record.outcome = "ok" if self._has_ended else "disconnected"
        self._owner.lost()
        self._record.end()


class _Stream:
    """An event stream that is being written; opened by its first word."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response
        self._pending: deque[bytes] = deque(maxlen=MAX_PENDING)
        self._wake = asyncio.Event()
        self._last: bytes | None = None
        self._writer = asyncio.create_task(self._write())

    def say(self, message: bytes) -> None:
        """Write one message, soon."""
        self._pending.append(_event(message))
        self._wake.set()

    async def end(self, message: bytes) -> web.StreamResponse:
        """Write the last message, after all others."""
        self._last = _event(message)
        self._wake.set()
        return await self._writer

    async def abandon(self) -> None:
        """Stop writing."""
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> web.StreamResponse:
        response = self._response
        await response.prepare(self._request)
        while True:
            while self._pending:
                await response.write(self._pending.popleft())
            if self._last is not None:
                await response.write(self._last)
                await response.write_eof()
                return response
            self._wake.clear()
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    await self._wake.wait()
            except TimeoutError:
                await response.write(stream.COMMENT)


class Answer:
    """The reply of one request. Used by its handler only.

    Args:
        request: the POST.
        own: headers of this answer, in either form.
        headers: those that every answer carries; the listener adds them where no stream was opened.
        alarms: one opens the stream of work that runs long.
        record: the request's log line, which is written later where the answer stays open.
        may_stream: whether the client accepts `text/event-stream`.
    """

    __slots__ = ("_alarms", "_headers", "_may_stream", "_own", "_record", "_request", "_stream")

    def __init__(
        self,
        request: web.BaseRequest,
        own: dict[str, str],
        headers: Headers,
        alarms: Alarms,
        record: Record,
        *,
        may_stream: bool,
    ) -> None:
        self._request = request
        self._own = own
        self._headers = headers
        self._record = record
        self._may_stream = may_stream
        self._stream: _Stream | None = None
        self._alarms = alarms
        if may_stream:
            alarms.set(self, asyncio.get_running_loop().time() + STREAM_AFTER, self._open)

    def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result; never blocks, and is dropped where no stream may be."""
        if self._may_stream:
            self._open().say(message)

    async def hold(self, owner: stream.Owner, identifier: RequestId | None) -> Held:
        """Open a stream that needs this request no more; not to be mixed with `notify`.

        Raises:
            Refused: the client takes no stream.
            ConnectionError: it has left.
        """
        if not self._may_stream:
            raise Refused(406, "Accept must include text/event-stream: this method answers with a stream.")
        self._alarms.unset(self)
        held = Held(owner, identifier, self._record)
        await held.open(self._request, self._streaming())
        return held

    async def finish(self, message: bytes, status: int, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
        """Send the result or error; on a stream the status has long been 200."""
        self._alarms.unset(self)
        if self._stream is not None:
            return await self._stream.end(message)
        if status == _OK and not headers:
            return self._headers.reply(self._request, self._own, message)
        said = {**self._own, **headers} if headers else self._own
        return web.Response(body=message, status=status, content_type="application/json", headers=said)

    async def abandon(self) -> None:
        """Stop writing, because the work was cancelled."""
        self._alarms.unset(self)
        if self._stream is not None:
            await self._stream.abandon()

    def _open(self) -> _Stream:
        if self._stream is None:
            self._alarms.unset(self)
            self._stream = _Stream(self._request, self._streaming())
        return self._stream

    def _streaming(self) -> web.StreamResponse:
        response = web.StreamResponse(headers=self._own | stream.HEADERS)
        self._headers.complete(self._request, response)
        return response
