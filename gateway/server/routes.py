"""Which path leads where: a table, because every request goes through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from gateway.server.connection import Connection
from gateway.server.headers import Headers

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

READ: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
"""The methods of what is only looked at."""


class Routes:
    """Serves the requests of one listener.

    Args:
        headers: what every answer carries.
    """

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._handlers: dict[str, tuple[frozenset[str], Handler]] = {}

    def add(self, path: str, handler: Handler, methods: frozenset[str] = frozenset()) -> None:
        """Lead a path to a handler.

        Args:
            path: exactly as in the request line, without a query.
            handler: answers every request of these methods.
            methods: those it takes; with none it takes all.
        """
        self._handlers[path] = (methods, handler)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request, whatever it is."""
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.begin()
        response = await self._answer(request)
        if not response.prepared:
            self._headers.complete(request, response)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.raw_path
        # Nearly always the target is the path as it stands here; else it has a query, or is written in another way.
        found = self._handlers.get(target) or self._handlers.get(request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404, text="Not Found\n")
        methods, handler = found
        if methods and request.method not in methods:
            return web.Response(status=405, text="Method Not Allowed\n", headers={"Allow": ", ".join(sorted(methods))})
        return await handler(request)
