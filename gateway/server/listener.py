"""Accepting connections: counted, bounded, in TLS where there is a certificate.

The gateway accepts by itself, so that a connection counts from its first packet
on, handshake included, and each handshake takes the certificate of the moment.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from gateway.errors import GatewayError
from gateway.server.connection import Connection
from gateway.server.crowd import SEND_TIMEOUT, Crowd
from gateway.server.routes import Handler
from gateway.server.tls import Certificates

BACKLOG: Final = 1024
LAST_WORD: Final = 2.0
"""Seconds that clients have at the very end to take the answers to what was stopped."""
_AT_ONCE: Final = 64
_PAUSE: Final = 0.1
_log: Final = logging.getLogger("gateway.server")


class StartError(GatewayError):
    """The gateway cannot start here; the message says what to change."""


def bind(host: str, port: int, section: str, *, is_shared: bool = False) -> socket.socket:
    """Take an address before anything is announced, so that port 0 is known and a taken port is said at once.

    Args:
        host: the address.
        port: 0 takes a free one.
        section: of the configuration, where both are written.
        is_shared: whether other processes may listen there, too.

    Raises:
        StartError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=is_shared)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Free the port or change {section}.port."
        ) from error
    listener.setblocking(False)
    # Inherited by what is accepted: a client that stops acknowledging, or reading, does not keep a socket for hours.
    if option := getattr(socket, "TCP_USER_TIMEOUT", None):
        listener.setsockopt(socket.IPPROTO_TCP, option, round(SEND_TIMEOUT * 1000))
    return listener


@asynccontextmanager
async def listen(
    serve: Handler,
    listener: socket.socket,
    crowd: Crowd,
    *,
    handshake_timeout: float,
    grace: float,
    certificates: Certificates | None = None,
) -> AsyncIterator[None]:
    """Accept connections while the block runs; then wait `grace` seconds for what is being served, and a moment more.

    Args:
        serve: answers each request.
        listener: a bound socket; closed at the end.
        crowd: counts and times them.
        handshake_timeout: seconds for TLS to begin.
        grace: seconds.
        certificates: for TLS; None for plain HTTP.
    """
    # `handler_cancellation` is what carries a client's disconnect down to the database.
    server = web.Server(serve, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=grace)
    try:
        await runner.setup()
        gate = _Gate(listener, server, crowd, certificates, handshake_timeout)
        async with running(crowd.watch()), gate.accepting():
            yield
    finally:
        listener.close()
        deadline = asyncio.get_running_loop().time() + grace + LAST_WORD
        # Together, since the runner would give a client that does not read as long again as it gave the work.
        await asyncio.gather(runner.cleanup(), crowd.until_empty(deadline))


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Endless work beside the block, cancelled at its end; should it fail, the log says so at once."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("the listener failed", exc_info=error)


class _Gate:
    """Accepts sockets and makes connections of them."""

    def __init__(
        self,
        listener: socket.socket,
        server: web.Server,
        crowd: Crowd,
        certificates: Certificates | None,
        handshake_timeout: float,
    ) -> None:
        self._listener = listener
        self._server = server
        self._crowd = crowd
        self._certificates = certificates
        self._handshake_timeout = handshake_timeout if certificates is not None else None
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def accepting(self) -> AsyncIterator[None]:
        """Accept while the block runs; what is still in its handshake at the end is dropped."""
        self._open_gate()
        try:
            yield
        finally:
            self._loop.remove_reader(self._listener)
            if self._pause is not None:
                self._pause.cancel()
            for task in self._opening:
                task.cancel()
            await asyncio.gather(*self._opening, return_exceptions=True)

    def _open_gate(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take some of those who wait; a callback and no task, since a cancelled task could lose one it has taken."""
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it was gone before it was here
            except OSError as error:
                self._crowd.noise.note("cannot accept", reason=str(error.strerror))
                self._crowd.make_room()
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(_PAUSE, self._open_gate)
                return
            if self._crowd.has_room():
                accepted.setblocking(False)
                self._begin(accepted, str(address[0]))
            else:
                accepted.close()

    def _begin(self, accepted: socket.socket, address: str) -> None:
        connection = Connection(self._server, self._crowd)
        task = asyncio.create_task(self._open(connection, accepted, address))

        def opened(_: asyncio.Task[None]) -> None:
            self._opening.discard(task)
            self._crowd.no_longer_wait(task)
            if not connection.was_made:
                self._crowd.leave(connection)
            if not connection.has_socket:
                # The task was cancelled before it began.
                accepted.close()

        self._opening.add(task)
        self._crowd.enter(connection)
        self._crowd.wait(task, task.cancel)
        task.add_done_callback(opened)

    async def _open(self, connection: Connection, accepted: socket.socket, address: str) -> None:
        """Make a connection of a socket, through the handshake if there is one."""
        connection.has_socket = True
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._certificates.context if self._certificates is not None else None,
                ssl_handshake_timeout=self._handshake_timeout,
            )
        except OSError as error:
            self._crowd.noise.note("handshakes failed", reason=_reason(error), address=address)


def _reason(error: OSError) -> str:
    """In a word or two; a client's bytes are not repeated."""
    return str(getattr(error, "reason", None) or error.strerror or type(error).__name__)
