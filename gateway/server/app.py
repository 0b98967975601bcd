"""The composition root of a running gateway: one lifespan, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.auth.metadata import resource_metadata
from gateway.config.loader import Configuration
from gateway.config.server import AdminSettings, ServerSettings
from gateway.errors import GatewayError
from gateway.server.admission import Admission
from gateway.server.audiences import PATH
from gateway.server.endpoint import endpoints
from gateway.server.health import Health
from gateway.server.mcp import Background
from gateway.server.metering import metrics_page
from gateway.server.reception import Desk, Reception
from gateway.server.refusals import Refusals
from gateway.server.snapshot import Snapshot, open_snapshot
from gateway.server.transport import Transport
from gateway.server.watch import open_watch
from gateway.telemetry.metrics import Metrics

_log: Final = logging.getLogger("gateway.server")
_KEEP_ALIVE: Final = 75.0
_POLL: Final = 0.01
# A token may be 16 KiB; what is larger is refused before anything looks at it.
_MAX_HEADER: Final = 24 * 1024
_MAX_LINE: Final = 8 * 1024
_METADATA: Final = "/.well-known/oauth-protected-resource"


class StartError(GatewayError):
    """The gateway cannot start here; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    Attributes:
        url: the MCP endpoint as reached from this machine.
        admin_url: the operators' listener.
        snapshot: what it serves.
        admission: what it counts of its clients.
    """

    url: str
    admin_url: str
    snapshot: Snapshot
    admission: Admission

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
        snapshot = await stack.enter_async_context(open_snapshot(configuration))
        watch = await stack.enter_async_context(open_watch(configuration.settings.telemetry, lambda: snapshot))
        background = Background()
        stack.push_async_callback(background.drain)
        health = Health(lambda: snapshot)
        admin_socket = _bind(configuration.settings.admin, "admin")
        await stack.enter_async_context(_listen(_admin_app(health, watch.metrics), admin_socket, 1.0))
        main_socket = _bind(settings, "server")
        local_url = _url(settings.host, main_socket)
        shared = snapshot.redis if configuration.settings.limits.backend == "redis" else None
        admission = Admission(configuration.settings.limits, shared)
        reception = Reception(snapshot, admission, watch)
        app = _app(reception, health, background, admission, (settings.public_url or local_url).rstrip("/"))
        await stack.enter_async_context(_listen(app, main_socket, settings.shutdown_grace))
        stack.callback(_begin_to_stop, health, background, settings.shutdown_grace)
        admin_url = _url(configuration.settings.admin.host, admin_socket)
        gateway = Gateway(local_url + PATH, admin_url, snapshot, admission)
        _log.info("serving", extra={"url": gateway.url, "admin_url": gateway.admin_url, "tools": len(snapshot.catalog)})
        yield gateway


def _begin_to_stop(health: Health, background: Background, grace: float) -> None:
    health.is_stopping = True
    background.deadline = asyncio.get_running_loop().time() + grace
    _log.info("stopping", extra={"grace_s": grace})


def _app(
    reception: Reception, health: Health, background: Background, admission: Admission, base_url: str
) -> web.Application:
    """The agents' listener: the endpoint, its OAuth metadata, and health."""
    snapshot = reception.snapshot
    app = web.Application()
    for endpoint in endpoints(snapshot.settings, base_url):
        scopes = endpoint.catalog(snapshot).entry_scopes
        refusals = Refusals(base_url + _METADATA + endpoint.path, scopes)
        desk = Desk(endpoint, Transport(endpoint, background, refusals, admission), refusals)
        app.router.add_route("*", endpoint.path, partial(reception.receive, desk))
        document = _document(resource_metadata(endpoint.resource, snapshot.settings.auth, scopes, endpoint.title))
        app.router.add_get(_METADATA + endpoint.path, document)
        if not endpoint.toolset:
            app.router.add_get(_METADATA, document)
    app.router.add_get("/healthz/live", health.live)
    app.router.add_get("/healthz/ready", health.ready)
    return app


def _document(content: Mapping[str, Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(content, headers={"Cache-Control": "public, max-age=300"})

    return answer


def _admin_app(health: Health, metrics: Metrics) -> web.Application:
    app = web.Application()
    app.router.add_get("/healthz/live", health.live)
    app.router.add_get("/healthz/ready", health.ready_in_detail)
    app.router.add_get("/metrics", metrics_page(metrics))
    return app


def _bind(settings: ServerSettings | AdminSettings, section: str) -> socket.socket:
    """Take the address before anything is announced, so that port 0 is known and a taken port is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            f"Free the port or change {section}.port."
        ) from error


def _url(host: str, listener: socket.socket) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    bracketed = f"[{reachable}]" if ":" in reachable else reachable
    return f"http://{bracketed}:{listener.getsockname()[1]}"


@asynccontextmanager
async def _listen(app: web.Application, listener: socket.socket, grace: float) -> AsyncIterator[None]:
    """Accept connections while the block runs; then wait `grace` seconds for what is being served.

    `handler_cancellation` is what carries a client's disconnect down to the database.
    """
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        keepalive_timeout=_KEEP_ALIVE,
        shutdown_timeout=grace,
        access_log=None,
        max_field_size=_MAX_HEADER,
        max_line_size=_MAX_LINE,
    )
    try:
        await runner.setup()
        await web.SockSite(runner, listener, backlog=1024).start()
        yield
    finally:
        await runner.cleanup()
        listener.close()
