"""One connection that reads an event stream of a session: what waits for it is bounded, and so is each write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.server.headers import Headers
from gateway.server.stream import COMMENT, HEADERS, Stream, begin

KEEP_ALIVE: Final = 15.0
"""Seconds between comment lines on a silent stream."""
WRITE_SECONDS: Final = 30.0
"""Seconds that a client may take to read what was sent before."""
MAX_WAITING_BYTES: Final = 1 << 20
"""Bytes that wait for a client, beside the one message that may always wait."""
_BEHIND: Final = 64


def frame(message: bytes, name: str = "") -> bytes:
    """A JSON-RPC message as a server-sent event (HTML standard, section 9.2.6); with a name it can be resumed after."""
    head = f"id: {name}\nevent: message\ndata: ".encode() if name else b"event: message\ndata: "
    return head + message + b"\n\n"


class Reader:
    """What waits for one connection; written as fast as its client takes it.

    Attributes:
        until: the event loop's time at which the stream ends at the latest.
        reason: why the connection was given up, in a stable word for the log line; empty while it was not.
    """

    __slots__ = ("_gone", "_is_ending", "_is_stalled", "_size", "_stream", "_timer", "_waiting", "reason", "until")

    def __init__(self) -> None:
        self._waiting: list[bytes] = []  # a deque that is empty has room for 64
        self._size = 0
        self._stream: Stream | None = None
        self._gone: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        self._is_ending = self._is_stalled = False
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
        self.flow()
        return True

    def end(self) -> None:
        """End the stream after what waits."""
        self._is_ending = True
        self.flow()

    def cut(self, reason: str) -> None:
        """Give the connection up at once."""
        self.reason = self.reason or reason
        self._waiting.clear()
        self._size = 0
        if self._stream is not None:
            self._stream.abort()

    async def open(
        self, request: web.BaseRequest, own: dict[str, str], headers: Headers, gone: Callable[[], None]
    ) -> web.StreamResponse:
        """Begin to write; the stream then lasts without its request.

        Args:
            request: whose answer this is.
            own: headers of this answer, beside those of every stream.
            headers: those of every answer.
            gone: called once, when the connection is over.

        Returns:
            The answer, of which only the head was sent.

        Raises:
            ConnectionError: the client has left.
        """
        response = web.StreamResponse(headers=own | HEADERS)
        headers.complete(request, response)
        self._gone = gone
        try:
            self._stream = await begin(request, response, self)
        except BaseException:
            self.lost()
            raise
        if self.reason:
            self._stream.abort()
        self.flow()
        return response

    def flow(self) -> None:
        """Write what waits, while the client takes it."""
        stream = self._stream
        if stream is None:
            return
        if stream.is_writable:
            self._is_stalled = False
        while self._waiting and stream.is_writable:
            stream.write(self._next())
        if self._is_ending and not self._waiting:
            self._stop_timer()
            stream.end()
        else:
            self._wait(stream)

    def lost(self) -> None:
        """The connection is over."""
        if not (self._is_ending and not self._waiting):
            self.cut("disconnected")
        self._stream = None
        self._stop_timer()
        self._gone()

    def _next(self) -> bytes:
        chunk = self._waiting.pop(0)
        self._size -= len(chunk)
        return chunk

    def _wait(self, stream: Stream) -> None:
        """Look again when it was silent for long, when it does not read, or when its time is over."""
        if self._is_stalled:
            return  # its time runs already
        self._stop_timer()
        self._is_stalled = not stream.is_writable
        loop = asyncio.get_running_loop()
        at = loop.time() + (WRITE_SECONDS if self._is_stalled else KEEP_ALIVE)
        self._timer = loop.call_at(at if self._is_ending else min(at, self.until), self._look, stream)

    def _look(self, stream: Stream) -> None:
        is_late, self._is_stalled = self._is_stalled, False
        if not self._is_ending and asyncio.get_running_loop().time() >= self.until:
            self.end()
        elif is_late and not stream.is_writable:
            self.cut("slow_reader")
        else:
            stream.write(COMMENT)
            self._wait(stream)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
