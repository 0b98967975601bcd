"""The composition root of a running gateway: one lifespan, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.config.loader import Configuration
from gateway.config.server import AdminSettings, ServerSettings
from gateway.errors import GatewayError
from gateway.server.admission import Admission
from gateway.server.audiences import PATH
from gateway.server.health import Health
from gateway.server.live import Live
from gateway.server.snapshot import Snapshot, open_snapshot
from gateway.telemetry import tracing

_log: Final = logging.getLogger("gateway.server")
_KEEP_ALIVE: Final = 75.0
_POLL: Final = 0.01
# A token may be 16 KiB; what is larger is refused before anything looks at it.
_MAX_HEADER: Final = 24 * 1024
_MAX_LINE: Final = 8 * 1024


class StartError(GatewayError):
    """The gateway cannot start here; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    Attributes:
        url: the MCP endpoint as reached from this machine.
        admin_url: the operators' listener.
        live: the configuration in force.
    """

    url: str
    admin_url: str
    live: Live

    @property
    def snapshot(self) -> Snapshot:
        """What it serves now."""
        return self.live.current.snapshot

    @property
    def admission(self) -> Admission:
        """What it counts of its clients."""
        return self.snapshot.admission

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


def _nobody_listens() -> None:
    """Nobody is told of other tools."""


@asynccontextmanager
async def open_gateway(
    configuration: Configuration, *, tools_changed: Callable[[], None] = _nobody_listens
) -> AsyncIterator[Gateway]:
    """Serve a configuration until the block ends, or another one in its place.

    On leaving: unready, stop accepting, finish what runs within
    `server.shutdown_grace`, cancel the rest, close pools, flush traces.

    Args:
        configuration: the first one.
        tools_changed: called when a reload gave callers other tools.

    Raises:
        ConfigError: a tool cannot be built.
        StartError: an address cannot be listened on.
    """
    settings = configuration.settings.server
    async with AsyncExitStack() as stack:
        stack.enter_context(tracing.open_tracing())
        snapshot = await open_snapshot(configuration)
        lasting = await stack.enter_async_context(AsyncExitStack())
        lasting.push_async_callback(snapshot.close)
        main_socket = stack.enter_context(_bind(settings, "server"))
        local_url = _url(settings.host, main_socket)
        live = Live(snapshot, local_url, tools_changed)
        lasting.pop_all()
        stack.push_async_callback(live.close)
        health = Health(lambda: live.current.snapshot)
        admin_socket = stack.enter_context(_bind(configuration.settings.admin, "admin"))
        await stack.enter_async_context(_listen(_admin_app(health), admin_socket, 1.0))
        await stack.enter_async_context(_listen(_app(live, health), main_socket, settings.shutdown_grace))
        stack.callback(_begin_to_stop, health, live, settings.shutdown_grace)
        gateway = Gateway(local_url + PATH, _url(configuration.settings.admin.host, admin_socket), live)
        _log.info("serving", extra={"url": gateway.url, "admin_url": gateway.admin_url, "tools": len(snapshot.catalog)})
        yield gateway


def _begin_to_stop(health: Health, live: Live, grace: float) -> None:
    health.is_stopping = True
    live.current.background.deadline = asyncio.get_running_loop().time() + grace
    _log.info("stopping", extra={"grace_s": grace})


def _app(live: Live, health: Health) -> web.Application:
    """The agents' listener: health, and everything else by the configuration in force."""
    app = web.Application()
    app.router.add_get("/healthz/live", health.live)
    app.router.add_get("/healthz/ready", health.ready)
    app.router.add_route("*", PATH, live.answer)
    app.router.add_route("*", "/{path:.*}", live.answer)
    return app


def _admin_app(health: Health) -> web.Application:
    app = web.Application()
    app.router.add_get("/healthz/live", health.live)
    app.router.add_get("/healthz/ready", health.ready_in_detail)
    return app


def _bind(settings: ServerSettings | AdminSettings, section: str) -> socket.socket:
    """Take the address before anything is announced, so that port 0 is known and a taken port is said at once."""
    is_shared = isinstance(settings, ServerSettings) and settings.reuse_port
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024, reuse_port=is_shared)
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
