"""One connection that reads an event stream of a session: what waits for it is bounded, and so is each write."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from aiohttp import web

from gateway.server.headers import Headers

KEEP_ALIVE: Final = 15.0
"""Seconds between comment lines on a silent stream."""
WRITE_SECONDS: Final = 30.0
"""Seconds that a client may take to read what was sent before."""
MAX_WAITING_BYTES: Final = 1 << 20
"""Bytes that wait for a client, beside the one message that may always wait."""
_BEHIND: Final = 64
_COMMENT: Final = b": keep-alive\n\n"

_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


def frame(message: bytes, name: str = "") -> bytes:
    """A JSON-RPC message as a server-sent event (HTML standard, section 9.2.6); with a name it can be resumed after."""
    head = f"id: {name}\nevent: message\ndata: ".encode() if name else b"event: message\ndata: "
    return head + message + b"\n\n"


class Reader:
    """What waits for one connection, and the loop that writes it.

    Attributes:
        until: the event loop's time at which the stream ends at the latest.
        reason: why the connection was given up, in a stable word for the log line; empty while it was not.
    """

    __slots__ = ("_is_ending", "_size", "_waiting", "_wake", "reason", "until")

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._is_ending = False
        self.reason = ""
        self.until = float("inf")

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that what is of no great weight had better not be said."""
        return len(self._waiting) >= _BEHIND

    @property
    def waiting_bytes(self) -> int:
        """What waits to be written."""
        return self._size

    def push(self, chunk: bytes, *, again: bool = False) -> bool:
        """Write something, soon; False when the connection is given up, as it is when too much waits.

        Args:
            chunk: whole events.
            again: it is kept in memory anyway, and bounded there.
        """
        if self._waiting and not again and self._size + len(chunk) > MAX_WAITING_BYTES:
            self.cut("slow_reader")
        if self.reason:
            return False
        self._waiting.append(chunk)
        self._size += len(chunk)
        self._wake.set()
        return True

    def end(self) -> None:
        """End the stream after what waits."""
        self._is_ending = True
        self._wake.set()

    def cut(self, reason: str) -> None:
        """Give the connection up at once."""
        self.reason = self.reason or reason
        self._waiting.clear()
        self._size = 0
        self._wake.set()

    async def serve(self, request: web.BaseRequest, own: dict[str, str], headers: Headers) -> web.StreamResponse:
        """Write until the end.

        Args:
            request: whose answer this is.
            own: headers of this answer, beside those of every stream.
            headers: those of every answer.

        Returns:
            The answer, whole or, where there is a `reason`, as far as it came.
        """
        response = web.StreamResponse(headers=own | _HEADERS)
        headers.complete(request, response)
        try:
            await self._serve(request, response)
        except TimeoutError:
            self.cut("slow_reader")
        except ConnectionError:
            self.cut("disconnected")
        if self.reason and request.transport is not None:
            request.transport.abort()
        return response

    async def _serve(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.prepare(request)
        while not self.reason:
            while self._waiting:
                await self._write(response, self._next())
            if self._is_ending or self.reason:
                break
            if not await self._woken():
                await self._write(response, _COMMENT)
        if not self.reason:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write_eof()

    def _next(self) -> bytes:
        chunk = self._waiting.popleft()
        self._size -= len(chunk)
        return chunk

    async def _write(self, response: web.StreamResponse, chunk: bytes) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(chunk)

    async def _woken(self) -> bool:
        """Wait for something to do; False when it is time to show that the stream is alive."""
        loop = asyncio.get_running_loop()
        self._wake.clear()
        try:
            async with asyncio.timeout_at(min(loop.time() + KEEP_ALIVE, self.until)):
                await self._wake.wait()
        except TimeoutError:
            if loop.time() < self.until:
                return False
            self._is_ending = True
        return True
