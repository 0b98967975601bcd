"""Outgoing HTTP for small JSON documents: encrypted, without redirects, bounded in size."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import orjson
from aiohttp.connector import Connection
from yarl import URL

from gateway.config.addresses import is_loopback
from gateway.errors import GatewayError
from gateway.net.proxy import ProxyError, way
from gateway.net.tls import Sighting, modest
from gateway.strict_json import MAX_DEPTH, nests_too_deep

_CODE: Final = re.compile(r"[a-z_]{1,40}")
_AGENT: Final = "mcp-database-gateway"


class FetchError(GatewayError):
    """A document could not be had; the message is for the operator.

    Args:
        status: the HTTP status, where that was the reason.
        code: the OAuth error code of a 400, if the answer has one (RFC 6749 section 5.2).
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


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


def trusting(ca: Path) -> ssl.SSLContext:
    """A context that trusts the authorities in a file, and no others.

    Raises:
        FetchError: the file cannot be read or holds no certificate.
    """
    try:
        return modest(ssl.create_default_context(cafile=ca))
    except OSError as error:  # SSLError is one
        raise FetchError(f"cannot take certificates from {ca}: {error.strerror or error}") from error


@asynccontextmanager
async def open_session(per_host: int = 2, ca: Path | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no cookies and few connections.

    Args:
        per_host: most connections to one host.
        ca: authorities to trust instead of the system's.

    Raises:
        FetchError: `ca` cannot be used.
    """
    # Compression is not asked for, so the size on the wire is the size in memory.
    headers = {"User-Agent": _AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
    # aiohttp has read the system's authorities when it was imported, which takes 40 ms each time.
    trust = trusting(ca) if ca else True
    connector = aiohttp.TCPConnector(limit=4 * per_host, limit_per_host=per_host, ssl=trust)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), response_class=_Response
    ) as session:
        yield session


class _Response(aiohttp.ClientResponse):
    """An answer that knows its server's certificate (DER): a short one has let go of its connection when it is here."""

    shown: bytes | None = None

    async def start(self, connection: Connection) -> Self:
        if connection.transport is not None and (link := connection.transport.get_extra_info("ssl_object")):
            self.shown = link.getpeercert(binary_form=True)
        await super().start(connection)
        return self


def note_certificate(response: aiohttp.ClientResponse, sighting: Sighting | None) -> None:
    """Remember what the server of an answer showed; `response` is of a session of `open_session`."""
    if sighting is not None and isinstance(response, _Response):
        sighting.see(response.shown)


async def get_json(
    session: aiohttp.ClientSession,
    url: str,
    *,
    max_bytes: int,
    timeout: float,  # noqa: ASYNC109
    sighting: Sighting | None = None,
) -> Any:
    """GET a JSON document.

    Args:
        max_bytes: larger answers are refused while they arrive.
        timeout: seconds for all of it.
        sighting: where the server's certificate is remembered, whatever it answers.

    Raises:
        FetchError: the URL is not secure, or the answer is not 200, too large, too deep, late or not JSON.
    """
    return await _fetch(session, "GET", url, max_bytes, timeout, sighting)


async def post_form(
    session: aiohttp.ClientSession,
    url: str,
    form: Mapping[str, str],
    *,
    headers: Mapping[str, str] | None = None,
    max_bytes: int,
    timeout: float,  # noqa: ASYNC109
    sighting: Sighting | None = None,
) -> Any:
    """POST a form, read a JSON document; bounds and errors as for `get_json`, which never tell what was sent."""
    return await _fetch(session, "POST", url, max_bytes, timeout, sighting, data=form, headers=headers)


async def _fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    max_bytes: int,
    limit: float,
    sighting: Sighting | None,
    **sent: Any,
) -> Any:
    if not is_secure(url):
        raise FetchError(f"{url}: https is required outside loopback")
    times = aiohttp.ClientTimeout(total=limit, sock_connect=limit)
    try:
        async with session.request(method, url, allow_redirects=False, timeout=times, **way(url), **sent) as response:
            note_certificate(response, sighting)
            if response.status != 200:
                code = _error_code(await _read(response, max_bytes)) if response.status == 400 else ""
                told = f"{url}: HTTP status {response.status} instead of 200{code and f' ({code})'}"
                raise FetchError(told, status=response.status, code=code)
            body = await _read(response, max_bytes)
    except TimeoutError as error:
        raise FetchError(f"{url}: no complete answer within {limit:g} s") from error
    except ProxyError as error:
        raise FetchError(f"{url}: {error.message}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"{url}: {reason(error)}") from error
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise FetchError(f"{url}: the answer is not JSON") from error
    if nests_too_deep(body):
        raise FetchError(f"{url}: the answer nests deeper than {MAX_DEPTH} levels")
    return document


def reason(error: Exception) -> str:
    """Why there was no answer, in words that hold nothing of what was sent."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy of HTTPS_PROXY refused, with HTTP status {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "the proxy of HTTPS_PROXY cannot be reached"
    return type(error).__name__


def _error_code(body: bytes) -> str:
    try:
        code = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"{response.url}: the answer is larger than {max_bytes} bytes")
    return bytes(body)
