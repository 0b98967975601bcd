"""The headers that every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

from gateway.server.cors import Cors
from gateway.server.reply import Reply

SECURITY: Final = (
    # Without it aiohttp would name itself, Python, and both versions.
    ("Server", "mcp-database-gateway"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
"""Answers are data: never guessed at, kept, linked from or shown in a page."""
STRICT_TRANSPORT: Final = ("Strict-Transport-Security", "max-age=31536000")
"""Only where clients come by https (RFC 6797 section 7.2)."""


class Headers:
    """Puts on every answer what belongs on it, just before it goes.

    Args:
        cors: whose pages may read it.
        is_secure: whether clients come by https, be it through a proxy.
    """

    def __init__(self, cors: Cors, *, is_secure: bool) -> None:
        self._cors = cors
        fixed = (*SECURITY, STRICT_TRANSPORT) if is_secure else SECURITY
        self._whole = dict(fixed)
        self._but_caching = {name: value for name, value in fixed if name != hdrs.CACHE_CONTROL}
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in fixed)

    def complete(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add the headers, before anything is sent; what the answer says by itself about caching stays."""
        headers = response.headers
        headers.update(self._but_caching if hdrs.CACHE_CONTROL in headers else self._whole)
        if self._cors.is_on:
            headers.update(self._cors.headers(request))

    def reply(self, request: web.BaseRequest, own: Mapping[str, str], body: bytes) -> web.StreamResponse:
        """A JSON answer with status 200; the usual one is complete at once."""
        if self._cors.is_on or not Reply.fits(request):
            return web.Response(body=body, content_type="application/json", headers=own)
        return Reply(self._lines, own, body)
