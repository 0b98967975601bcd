"""Outgoing HTTP for small JSON documents: encrypted, without redirects, bounded in size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from gateway.config.addresses import is_loopback
from gateway.errors import GatewayError

_AGENT: Final = "mcp-database-gateway"


class FetchError(GatewayError):
    """A document could not be had; the message is for the operator."""


def leads_to_loopback(url: str) -> bool:
    """Whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return is_loopback(URL(url).host or "")
    except ValueError:
        return False


def is_secure(url: str) -> bool:
    """Whether a URL may be fetched: https with a host and without credentials; plain http on loopback only."""
    try:
        parsed = URL(url)
    except ValueError:
        return False
    if not parsed.host or parsed.user is not None:
        return False
    return parsed.scheme == "https" or (parsed.scheme == "http" and leads_to_loopback(url))


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no cookies and few connections."""
    # Compression is not asked for, so the size on the wire is the size in memory.
    headers = {"User-Agent": _AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
    connector = aiohttp.TCPConnector(limit=8, limit_per_host=2)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield session


async def get_json(session: aiohttp.ClientSession, url: str, *, max_bytes: int, timeout: float) -> Any:  # noqa: ASYNC109
    """GET a JSON document.

    Args:
        max_bytes: larger answers are refused while they arrive.
        timeout: seconds for all of it.

    Raises:
        FetchError: the URL is not secure, or the answer is not 200, too large, late or not JSON.
    """
    if not is_secure(url):
        raise FetchError(f"{url}: https is required outside loopback")
    try:
        async with session.get(
            url, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=timeout)
        ) as response:
            if response.status != 200:
                raise FetchError(f"{url}: HTTP status {response.status} instead of 200")
            body = await _read(response, max_bytes)
    except TimeoutError as error:
        raise FetchError(f"{url}: no complete answer within {timeout:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"{url}: {type(error).__name__}") from error
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise FetchError(f"{url}: the answer is not JSON") from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"{response.url}: the answer is larger than {max_bytes} bytes")
    return bytes(body)
