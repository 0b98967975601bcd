"""One answer to one POST: JSON, or an SSE stream when there is progress to tell or the work runs long.

Nothing is written until one of the two is certain, so a call that fails before
any progress still gets its HTTP status (MCP 2026-07-28, Streamable HTTP).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from gateway.errors import Refused
from gateway.resilience.alarms import Alarms
from gateway.server.headers import Headers

STREAM_AFTER: Final = 5.0
"""Seconds of silence after which the answer becomes a stream, so that no proxy gives up on it."""
KEEP_ALIVE: Final = 15.0
"""Seconds between comment lines on a silent stream."""
MAX_PENDING: Final = 64
"""Progress lines kept for a slow reader; older ones are dropped, which keeps the sequence rising."""

_OK: Final = 200
_COMMENT: Final = b": keep-alive\n\n"
_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


def _event(message: bytes) -> bytes:
    return b"event: message\ndata: " + message + b"\n\n"


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
                await response.write(_COMMENT)


class Answer:
    """The reply of one request. Used by its handler only.

    Args:
        request: the POST.
        own: headers of this answer, in either form.
        headers: those that every answer carries; the listener adds them where no stream was opened.
        alarms: one opens the stream of work that runs long.
        may_stream: whether the client accepts `text/event-stream`.
    """

    __slots__ = ("_alarms", "_direct", "_headers", "_may_stream", "_own", "_request", "_stream")

    def __init__(
        self, request: web.BaseRequest, own: dict[str, str], headers: Headers, alarms: Alarms, *, may_stream: bool
    ) -> None:
        self._request = request
        self._own = own
        self._headers = headers
        self._may_stream = may_stream
        self._stream: _Stream | None = None
        self._direct: web.StreamResponse | None = None
        self._alarms = alarms
        if may_stream:
            alarms.set(self, asyncio.get_running_loop().time() + STREAM_AFTER, self._open)

    def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result; never blocks, and is dropped where no stream may be."""
        if self._may_stream:
            self._open().say(message)

    async def tell(self, message: bytes) -> None:
        """Send a message on a stream that stays open, without a writer of its own; not to be mixed with `notify`."""
        if not self._may_stream:
            raise Refused(406, "Accept must include text/event-stream: this method answers with a stream.")
        if self._direct is None:
            self._alarms.unset(self)
            self._direct = self._streaming()
            await self._direct.prepare(self._request)
        await self._direct.write(_event(message))

    async def keep_alive(self) -> None:
        """Write a comment line on the open stream."""
        if self._direct is not None:
            await self._direct.write(_COMMENT)

    async def finish(self, message: bytes, status: int, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
        """Send the result or error; on a stream the status has long been 200."""
        self._alarms.unset(self)
        if self._direct is not None:
            await self._direct.write(_event(message))
            await self._direct.write_eof()
            return self._direct
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
        response = web.StreamResponse(headers=self._own | _STREAM_HEADERS)
        self._headers.complete(self._request, response)
        return response
