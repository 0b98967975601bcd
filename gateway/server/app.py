"""The composition root of a running gateway: one lifespan, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.auth.metadata import resource_metadata
from gateway.config.loader import Configuration
from gateway.config.server import ServerSettings
from gateway.server.admission import Admission
from gateway.server.audiences import PATH
from gateway.server.auditing import note_start
from gateway.server.cors import Cors
from gateway.server.crowd import Crowd, connections_that_fit
from gateway.server.doors import doors
from gateway.server.endpoint import endpoints
from gateway.server.events import Announcements
from gateway.server.headers import Headers
from gateway.server.health import Health
from gateway.server.listen import Listening
from gateway.server.listener import StartError, bind, listen, running
from gateway.server.mcp import Background
from gateway.server.reception import Desk, Reception
from gateway.server.refusals import Refusals
from gateway.server.routes import READ, Handler, Routes
from gateway.server.sessions import Sessions, open_sessions
from gateway.server.sinks import open_audit
from gateway.server.snapshot import Snapshot, open_snapshot
from gateway.server.tls import CertificateError, Certificates
from gateway.server.transport import Transport
from gateway.telemetry import tracing
from gateway.telemetry.audit import events

_log: Final = logging.getLogger("gateway.server")
_POLL: Final = 0.01
_ADMIN_CONNECTIONS: Final = 256
_METADATA: Final = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    Attributes:
        url: the MCP endpoint as reached from this machine.
        admin_url: the operators' listener.
        snapshot: what it serves.
        admission: what it counts of its clients.
        sessions: those of its clients, where sessions are on.
        announcements: who is told of changes, and how they are announced.
    """

    url: str
    admin_url: str
    snapshot: Snapshot
    admission: Admission
    sessions: Sessions
    announcements: Announcements

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
            sources = {name: source.trouble for name, source in self.snapshot.sources.items() if not source.is_up}
            raise StartError(f"Not ready within {limit:g} s: {self.snapshot.verifier.status()}, {sources}") from None


@asynccontextmanager
async def open_gateway(configuration: Configuration) -> AsyncIterator[Gateway]:
    """Serve a configuration until the block ends.

    On leaving: unready, stop accepting, finish what runs within
    `server.shutdown_grace`, cancel the rest, close pools, flush traces.

    Raises:
        ConfigError: a tool cannot be built.
        StartError: an address cannot be listened on.
    """
    settings = configuration.settings.server
    async with AsyncExitStack() as stack:
        stack.enter_context(tracing.open_tracing())
        audit = await stack.enter_async_context(open_audit(configuration))
        announcements = Announcements()
        snapshot = await stack.enter_async_context(open_snapshot(configuration, audit, announcements))
        background = Background()
        stack.push_async_callback(background.drain)
        sessions = await stack.enter_async_context(open_sessions(configuration.settings.features, announcements))
        health = Health(lambda: snapshot)
        admin = configuration.settings.admin
        admin_socket = bind(admin.host, admin.port, "admin")
        crowd = Crowd(_ADMIN_CONNECTIONS, settings.header_timeout)
        await stack.enter_async_context(
            listen(
                _admin_routes(health).serve, admin_socket, crowd, handshake_timeout=settings.header_timeout, grace=1.0
            )
        )
        main_socket = bind(settings.host, settings.port, "server")
        stack.callback(main_socket.close)
        local_url = _url(settings.host, main_socket, is_secure=settings.tls is not None)
        base_url = (settings.public_url or local_url).rstrip("/")
        shared = snapshot.redis if configuration.settings.limits.backend == "redis" else None
        admission = Admission(configuration.settings.limits, shared)
        routes = _routes(snapshot, health, background, admission, sessions, Listening(announcements), base_url)
        await stack.enter_async_context(_listening(routes.serve, main_socket, settings))
        stack.callback(announcements.close)
        stack.callback(_begin_to_stop, health, background, sessions, settings.shutdown_grace)
        stack.callback(audit.note, events.GATEWAY_STOP, {"url": local_url + PATH})
        admin_url = _url(admin.host, admin_socket)
        gateway = Gateway(local_url + PATH, admin_url, snapshot, admission, sessions, announcements)
        _log.info("serving", extra={"url": gateway.url, "admin_url": gateway.admin_url, "tools": len(snapshot.catalog)})
        note_start(audit, configuration, gateway.url)
        yield gateway


def _begin_to_stop(health: Health, background: Background, sessions: Sessions, grace: float) -> None:
    health.is_stopping = True
    background.deadline = asyncio.get_running_loop().time() + grace
    sessions.stop(background.deadline)
    _log.info("stopping", extra={"grace_s": grace})


def _routes(
    snapshot: Snapshot,
    health: Health,
    background: Background,
    admission: Admission,
    sessions: Sessions,
    listening: Listening,
    base_url: str,
) -> Routes:
    """The agents' listener: the endpoints, their OAuth metadata, and health."""
    cors = Cors(snapshot.settings.server.allowed_origins)
    headers = Headers(cors, is_secure=base_url.startswith("https:"))
    reception = Reception(snapshot, admission, cors)
    routes = Routes(headers)
    for endpoint in endpoints(snapshot.settings, base_url):
        scopes = endpoint.catalog(snapshot).entry_scopes
        refusals = Refusals(base_url + _METADATA + endpoint.path, scopes)
        stateless = Transport(endpoint, background, refusals, admission, listening, headers)
        for door in doors(endpoint, stateless, sessions, snapshot.settings.features, headers):
            refusals = Refusals(base_url + _METADATA + door.resource, scopes, door.counter.methods)
            routes.add(door.path, partial(reception.receive, Desk(endpoint, door.counter, refusals)))
            if door.path == door.resource:
                content = resource_metadata(base_url + door.path, snapshot.settings.auth, scopes, endpoint.title)
                for path in (_METADATA + door.path, *((_METADATA,) if door.path == PATH else ())):
                    routes.add(path, _document(content, cors), READ | {"OPTIONS"} if cors.is_on else READ)
    routes.add("/healthz/live", health.live, READ)
    routes.add("/healthz/ready", health.ready, READ)
    return routes


def _document(content: Mapping[str, Any], cors: Cors) -> Handler:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if (preflight := cors.preflight(request, ("GET",))) is not None:
            return preflight
        return web.json_response(content, headers={"Cache-Control": "public, max-age=300"})

    return answer


def _admin_routes(health: Health) -> Routes:
    routes = Routes(Headers(Cors(()), is_secure=False))
    routes.add("/healthz/live", health.live, READ)
    routes.add("/healthz/ready", health.ready_in_detail, READ)
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
