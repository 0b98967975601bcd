"""The usual answer, head and body in one piece: JSON, HTTP/1.1, on a connection that stays open.

aiohttp's own response is made for every case; this is for the one that nearly all calls are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter


class Reply(web.StreamResponse):
    """A whole answer with status 200, written at once.

    Args:
        fixed: lines of the head that are always the same, each with its end.
        own: further headers; their values are the gateway's own words.
        body: the JSON.
    """

    def __init__(self, fixed: str, own: Mapping[str, str], body: bytes) -> None:
        super().__init__()
        self._fixed = fixed
        self._own = own
        self._whole = body

    @staticmethod
    def fits(request: web.BaseRequest) -> bool:
        """Whether a request may be answered in this way."""
        return request.version == HttpVersion11 and request.keep_alive

    @property
    def prepared(self) -> bool:
        """Always: it lacks nothing."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write everything.

        Raises:
            ConnectionError: the client has left.
        """
        if self._eof_sent:
            return None
        self._eof_sent = True
        if self._keep_alive is None:
            self._keep_alive = True
        own = "".join([f"{name}: {value}\r\n" for name, value in self._own.items()])
        closing = "" if self._keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(self._whole)}\r\n"
            f"Date: {_date(int(time.time()))}\r\n{self._fixed}{own}{closing}\r\n"
        )
        await request.writer.write_eof(head.encode("latin-1") + self._whole)
        return None


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """A time as HTTP writes it (RFC 9110 section 5.6.7)."""
    return formatdate(second, usegmt=True)
