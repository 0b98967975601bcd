"""The composition root of a running gateway: one lifespan, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.config.loader import Configuration
from gateway.config.server import ServerSettings
from gateway.server.admission import Admission
from gateway.server.audiences import PATH
from gateway.server.auditing import note_start
from gateway.server.cors import Cors
from gateway.server.crowd import Crowd, connections_that_fit
from gateway.server.events import Announcements
from gateway.server.headers import Headers
from gateway.server.health import Health
from gateway.server.listener import StartError, bind, listen, running
from gateway.server.live import Live
from gateway.server.metering import metrics_page
from gateway.server.routes import READ, Handler, Routes
from gateway.server.sessions import Sessions
from gateway.server.sessions_keeping import open_sessions
from gateway.server.sinks import open_audit
from gateway.server.snapshot import Snapshot, open_snapshot
from gateway.server.tls import CertificateError, Certificates
from gateway.server.watch import open_watch
from gateway.telemetry.audit import events
from gateway.telemetry.audit.recorder import Audit
from gateway.telemetry.metrics import Metrics

_log: Final = logging.getLogger("gateway.server")
_POLL: Final = 0.01
_ADMIN_CONNECTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    Attributes:
        url: the MCP endpoint as reached from this machine.
        admin_url: the operators' listener.
        live: the configuration in force.
        sessions: those of its clients, where sessions are on.
    """

    url: str
    admin_url: str
    live: Live
    sessions: Sessions

    @property
    def snapshot(self) -> Snapshot:
        """What it serves now."""
        return self.live.current.snapshot

    @property
    def admission(self) -> Admission:
        """What it counts of its clients."""
        return self.snapshot.admission

    @property
    def announcements(self) -> Announcements:
        """Who is told of changes, and how they are announced; the same through all reloads."""
        return self.snapshot.listening.announcements

    async def until_ready(self, limit: float = 10.0) -> None:
        """Wait until calls can be served.

        Args:
            limit: seconds.

        Raises:
            StartError: it did not become ready in time.
        """
        try:
            async with asyncio.timeout(limit):
                while not self.snapshot.is_ready:  # noqa: ASYNC110 - the sum of many parts, without an event of its own
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise StartError(f"Not ready within {limit:g} s: {self.snapshot.troubles}") from None


@asynccontextmanager
async def open_gateway(configuration: Configuration) -> AsyncIterator[Gateway]:
    """Serve a configuration until the block ends, or another one in its place.

    On leaving: unready, stop accepting, finish what runs within
    `server.shutdown_grace`, cancel the rest, close pools, flush traces.

    Args:
        configuration: the first one.

    Raises:
        ConfigError: a tool cannot be built.
        StartError: an address cannot be listened on.
    """
    settings = configuration.settings.server
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(open_audit(configuration))
        main_socket = stack.enter_context(bind(settings.host, settings.port, "server", is_shared=settings.reuse_port))
        local_url = _url(settings.host, main_socket, is_secure=settings.tls is not None)
        live, sessions = await open_live(stack, configuration, audit, local_url)
        admin = configuration.settings.admin
        admin_socket = stack.enter_context(bind(admin.host, admin.port, "admin"))
        crowd = Crowd(_ADMIN_CONNECTIONS, settings.header_timeout)
        serve = _admin_routes(live.health, live.watch.metrics).serve
        await stack.enter_async_context(
            listen(serve, admin_socket, crowd, handshake_timeout=settings.header_timeout, grace=1.0)
        )
        await stack.enter_async_context(_listening(live.answer, main_socket, settings))
        stack.callback(live.current.snapshot.listening.announcements.close)
        stack.callback(_begin_to_stop, live, settings.shutdown_grace)
        stack.callback(audit.note, events.GATEWAY_STOP, {"url": local_url + PATH})
        gateway = Gateway(local_url + PATH, _url(admin.host, admin_socket), live, sessions)
        told = {"url": gateway.url, "admin_url": gateway.admin_url, "tools": len(gateway.snapshot.catalog)}
        _log.info("serving", extra=told)
        note_start(audit, configuration, gateway.url)
        yield gateway


async def open_live(
    stack: AsyncExitStack, configuration: Configuration, audit: Audit, local_url: str
) -> tuple[Live, Sessions]:
    """What serves, and what stays when a reload replaces it; the first snapshot is held by nothing else.

    Args:
        stack: closes everything.
        configuration: the first one.
        audit: outlives it.
        local_url: how the listener is reached from this machine, without a path.

    Raises:
        ConfigError: a tool cannot be built.
    """
    settings = configuration.settings
    snapshot = await open_snapshot(configuration, audit)
    watch = await stack.enter_async_context(open_watch(settings.telemetry, lambda: live.current.snapshot))
    announcements = snapshot.listening.announcements
    sessions = await stack.enter_async_context(open_sessions(settings.features, announcements))
    live = Live(snapshot, local_url, announcements.announce_tools_changed, watch, sessions)
    stack.push_async_callback(live.close)
    return live, sessions


def _begin_to_stop(live: Live, grace: float) -> None:
    live.stop(grace)
    _log.info("stopping", extra={"grace_s": grace})


def _admin_routes(health: Health, metrics: Metrics) -> Routes:
    routes = Routes(Headers(Cors(()), is_secure=False))
    routes.add("/healthz/live", health.live, READ)
    routes.add("/healthz/ready", health.ready_in_detail, READ)
    routes.add("/metrics", metrics_page(metrics), READ)
    return routes


@asynccontextmanager
async def _listening(serve: Handler, listener: socket.socket, settings: ServerSettings) -> AsyncIterator[None]:
    """The agents' listener, in TLS where there is a certificate, which is then looked after."""
    crowd = Crowd(connections_that_fit(settings.max_connections), settings.header_timeout)
    async with AsyncExitStack() as stack:
        certificates: Certificates | None = None
        if settings.tls is not None:
            try:
                certificates = Certificates(settings.tls)
            except CertificateError as error:
                raise StartError(error.message) from error
            await stack.enter_async_context(running(certificates.watch()))
        listening = listen(
            serve,
            listener,
            crowd,
            handshake_timeout=settings.header_timeout,
            grace=settings.shutdown_grace,
            certificates=certificates,
        )
        await stack.enter_async_context(listening)
        yield


def _url(host: str, listener: socket.socket, *, is_secure: bool = False) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    bracketed = f"[{reachable}]" if ":" in reachable else reachable
    scheme = "https" if is_secure else "http"
    return f"{scheme}://{bracketed}:{listener.getsockname()[1]}"
