"""The body of a request: read within its limit and its time."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from gateway.errors import Refused


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """The request's body, refused as soon as it is too large, too slow or not JSON by its own account.

    Raises:
        Refused: 413, 415 or 408.
    """
    is_plain = request.headers.get(hdrs.CONTENT_TYPE) == "application/json"
    if not is_plain and request.content_type != "application/json":
        raise Refused(415, "Content-Type must be application/json.")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise Refused(415, "Compressed bodies are not served; send the JSON as it is.")
    if (request.content_length or 0) > limit:
        raise Refused(413, f"The body is larger than {limit} bytes.")
    if request.content.is_eof():  # as most are: it came with its head, and there is nothing to wait for
        return _within(request.content.read_nowait(), limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise Refused(413, f"The body is larger than {limit} bytes.")
    except TimeoutError:
        raise Refused(408, f"The body did not arrive within {seconds:g} s.") from None
    return bytes(body)


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise Refused(413, f"The body is larger than {limit} bytes.")
    return body
