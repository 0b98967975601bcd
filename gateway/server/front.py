"""Everything that the agents' listener answers with one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.auth.metadata import resource_metadata
from gateway.server.audiences import PATH
from gateway.server.background import Background
from gateway.server.cors import Cors
from gateway.server.doors import doors
from gateway.server.endpoint import endpoints
from gateway.server.headers import Headers
from gateway.server.health import Health
from gateway.server.reception import Desk, Reception
from gateway.server.refusals import Refusals
from gateway.server.routes import READ, Handler, Routes
from gateway.server.sessions import Sessions
from gateway.server.snapshot import Snapshot
from gateway.server.transport import Transport
from gateway.server.watch import Watch

METADATA: Final = "/.well-known/oauth-protected-resource"


class Front:
    """The doors of one snapshot, and who is still inside.

    Args:
        snapshot: what is served.
        local_url: how the listener is reached from this machine, without a path.
        health: answers the probes, whatever the snapshot.
        watch: is told of every request.
        sessions: those of clients, where they are on.

    Attributes:
        background: where writes are seen through whose client has left.
    """

    def __init__(self, snapshot: Snapshot, local_url: str, health: Health, watch: Watch, sessions: Sessions) -> None:
        self.snapshot = snapshot
        self.background = Background()
        self._users = 0
        self._emptied: asyncio.Event | None = None
        base_url = (snapshot.settings.server.public_url or local_url).rstrip("/")
        cors = Cors(snapshot.settings.server.allowed_origins)
        self._routes = _routes(Reception(snapshot, cors, watch), health, self.background, sessions, base_url)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Whatever is asked; counted, so that nothing is closed under a call."""
        self.enter()
        try:
            return await self._routes.serve(request)
        finally:
            self.leave()

    def enter(self) -> None:
        """Someone comes in, and is waited for until `leave`."""
        self._users += 1

    def leave(self) -> None:
        """Someone has left."""
        self._users -= 1
        if self._emptied is not None and not self._users:
            self._emptied.set()

    async def retire(self, limit: float) -> None:
        """Wait until the last call has left, writes that outlive their clients included; then close.

        Args:
            limit: seconds after which it is closed under whoever is left.
        """
        self.background.deadline = asyncio.get_running_loop().time() + limit
        try:
            self._emptied = asyncio.Event()
            if self._users:
                async with asyncio.timeout(limit):
                    await self._emptied.wait()
        except TimeoutError:
            pass  # a stream that listens has no end; no call lives as long
        finally:
            await self.close()

    async def close(self) -> None:
        """See writes through until the deadline of `background`, then let go of the snapshot."""
        try:
            await self.background.drain()
        finally:
            await self.snapshot.close()


def _routes(reception: Reception, health: Health, background: Background, sessions: Sessions, base_url: str) -> Routes:
    """The endpoints, their OAuth metadata, and health."""
    snapshot, cors = reception.snapshot, reception.cors
    settings, headers = snapshot.settings, Headers(cors, is_secure=base_url.startswith("https:"))
    routes = Routes(headers)
    for endpoint in endpoints(settings, base_url):
        scopes = endpoint.catalog(snapshot).entry_scopes
        refusals = Refusals(base_url + METADATA + endpoint.path, scopes)
        stateless = Transport(endpoint, background, refusals, snapshot.admission, snapshot.listening, headers)
        for door in doors(endpoint, stateless, sessions, settings.features, headers):
            refusals = Refusals(base_url + METADATA + door.resource, scopes, door.counter.methods)
            routes.add(door.path, partial(reception.receive, Desk(endpoint, door.counter, refusals)))
            if door.path == door.resource:
                content = resource_metadata(base_url + door.path, settings.auth, scopes, endpoint.title)
                for path in (METADATA + door.path, *((METADATA,) if door.path == PATH else ())):
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
