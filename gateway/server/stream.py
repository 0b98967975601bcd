"""An event stream with nothing around it: no request, no parser, no task.

What HTTP needs for a request (its head, the parser, two tasks and their
contexts) costs about 20 KB, and a stream may be silent for hours. Once its head
is sent, it takes the connection over, and is this object until it ends.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Final, Protocol

from aiohttp import hdrs, web

from gateway.server.connection import Connection

OPEN_SECONDS: Final = 30.0
"""Seconds in which the head must have been taken."""
MAX_UNWANTED: Final = 64 * 1024
"""Bytes that a client may send on a connection that it was told to read only."""
HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""What keeps a proxy from holding events back."""
COMMENT: Final = b": keep-alive\n\n"


class Owner(Protocol):
    """Who speaks on a stream."""

    def flow(self) -> None:
        """Everything was taken; more may be said."""

    def lost(self) -> None:
        """The connection is over; called once, whatever ended it."""


class Stream(asyncio.Protocol):
    """A connection that carries events.

    Attributes:
        is_writable: whether the client has taken all that was written.
        is_timed: it has no head to wait for, see `crowd.Peer`.
    """

    __slots__ = ("_context", "_crowd", "_is_chunked", "_owner", "_transport", "_unwanted", "is_timed", "is_writable")

    def __init__(self, connection: Connection, owner: Owner, *, is_chunked: bool) -> None:
        self._owner = owner
        self._crowd = connection.crowd
        self._context = copy_context()  # what is logged at the end belongs to the request
        self._is_chunked = is_chunked
        self._unwanted = 0
        self.is_timed = False
        self.is_writable = True
        self._transport = connection.release(self)
        self._crowd.enter(self)
        # A message at a time: what waits behind it stays where it can be counted, and be left out.
        self._transport.set_write_buffer_limits(high=1)

    def write(self, data: bytes) -> None:
        """Send some whole events, as soon as possible."""
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self) -> None:
        """Close once everything was taken."""
        if not self._transport.is_closing():
            if self._is_chunked:
                self._transport.write(b"0\r\n\r\n")
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def expire(self) -> None:
        """Nothing: no head is waited for."""

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""
        return self._transport.get_write_buffer_size()

    def data_received(self, data: bytes) -> None:
        """Throw away what nobody asked for; a flood of it ends the stream."""
        self._unwanted += len(data)
        if self._unwanted > MAX_UNWANTED:
            self.abort()

    def pause_writing(self) -> None:
        """Something waits for the client."""
        self.is_writable = False
        self._crowd.stall(self, self.unsent)

    def resume_writing(self) -> None:
        """It has taken everything."""
        self.is_writable = True
        self._crowd.flow(self)
        self._context.run(self._owner.flow)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end."""
        self._crowd.leave(self)
        self._context.run(self._owner.lost)


async def begin(request: web.BaseRequest, response: web.StreamResponse, owner: Owner) -> Stream:
    """Send the head of an answer and take its connection; for HTTP it is then as if the client had left.

    The handler that calls this is cancelled at its next await.

    Raises:
        ConnectionError: the client has left, or does not read.
    """
    response.force_close()
    connection = request.protocol
    if not isinstance(connection, Connection):
        raise TypeError("an event stream needs a connection of the gateway's listener")
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await response.prepare(request)
    except TimeoutError:
        connection.abort()
        raise ConnectionAbortedError from None
    return Stream(connection, owner, is_chunked=hdrs.TRANSFER_ENCODING in response.headers)
