"""Everything that the agents' listener answers with one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.auth.metadata import resource_metadata
from gateway.server.endpoint import endpoints
from gateway.server.mcp import Background
from gateway.server.reception import Desk, Reception
from gateway.server.refusals import Refusals
from gateway.server.snapshot import Snapshot
from gateway.server.transport import Transport

METADATA: Final = "/.well-known/oauth-protected-resource"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Front:
    """The doors of one snapshot, and who is still inside.

    Args:
        snapshot: what is served.
        local_url: how the listener is reached from this machine, without a path.

    Attributes:
        users: requests that are being answered.
    """

    def __init__(self, snapshot: Snapshot, local_url: str) -> None:
        self.snapshot = snapshot
        self.background = Background()
        self.users = 0
        self._emptied: asyncio.Event | None = None
        self._answers = self._open_doors((snapshot.settings.server.public_url or local_url).rstrip("/"))

    def _open_doors(self, base_url: str) -> Mapping[str, Answer]:
        snapshot, answers = self.snapshot, dict[str, Answer]()
        reception = Reception(snapshot)
        for endpoint in endpoints(snapshot.settings, base_url):
            scopes = endpoint.catalog(snapshot).entry_scopes
            refusals = Refusals(base_url + METADATA + endpoint.path, scopes)
            transport = Transport(endpoint, self.background, refusals, snapshot.admission)
            answers[endpoint.path] = partial(reception.receive, Desk(endpoint, transport, refusals))
            metadata = resource_metadata(endpoint.resource, snapshot.settings.auth, scopes, endpoint.title)
            answers[METADATA + endpoint.path] = _document(metadata)
            if not endpoint.toolset:
                answers[METADATA] = _document(metadata)
        return answers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever is asked here; counted, so that nothing is closed under a call."""
        answer = self._answers.get(request.rel_url.raw_path)
        if answer is None:
            raise web.HTTPNotFound
        self.users += 1
        try:
            return await answer(request)
        finally:
            self.users -= 1
            if self._emptied is not None and not self.users:
                self._emptied.set()

    async def retire(self, limit: float) -> None:
        """Wait until the last call has left, writes that outlive their clients included; then close.

        Args:
            limit: seconds after which it is closed under whoever is left.
        """
        self.background.deadline = asyncio.get_running_loop().time() + limit
        try:
            self._emptied = asyncio.Event()
            if self.users:
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


def _document(content: Mapping[str, Any]) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        return web.json_response(content, headers={"Cache-Control": "public, max-age=300"})

    return answer
