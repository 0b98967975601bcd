"""The gateway's own outgoing tokens: OAuth 2.0 client credentials (RFC 6749 section 4.4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote_plus

import aiohttp
import orjson

from gateway.errors import GatewayError
from gateway.net import http
from gateway.net.proxy import ProxyError, way
from gateway.net.tls import Sighting

T = TypeVar("T")

REFRESH_BEFORE: Final = 60.0
"""Seconds before expiry at which a token is replaced, so that none expires in the middle of a request."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_MAX_BYTES: Final = 65536
_DEFAULT_LIFE: Final = 300.0
_RETRY: Final = 5.0
"""Seconds between two attempts to replace a token that is still good."""


class TokenError(GatewayError):
    """The token endpoint gave no token; the message says why, without the secret."""


class Renewed(Generic[T]):
    """A source of tokens that keeps one, and replaces it early, by one request at a time.

    Args:
        fetch: gets another one, and the seconds that it is good for from when it was asked for.
        clock: monotonic seconds.
    """

    def __init__(self, fetch: Callable[[], Coroutine[Any, Any, tuple[T, float]]], clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token: T | None = None
        self._refresh_at = 0.0
        self._expires_at = 0.0
        self._fetching: asyncio.Task[T] | None = None

    async def token(self) -> T:
        """A token good for at least a minute (half its life, if it lives shorter than two).

        While nobody gives another, the last one serves to its end.

        Raises:
            TokenError: there is none, and none to be had.
        """
        if self._token is not None and self._clock() < self._refresh_at:
            return self._token
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew())
            self._fetching.add_done_callback(self._renewed)
        try:
            return await asyncio.shield(self._fetching)
        except TokenError:
            if self._token is None or self._clock() >= self._expires_at:
                raise
            self._refresh_at = min(self._expires_at, self._clock() + _RETRY)
            return self._token

    def forget(self) -> None:
        """Do not use the token again: somebody refused it."""
        self._token = None

    def _renewed(self, task: asyncio.Task[T]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # seen, though everybody who asked may have left

    async def _renew(self) -> T:
        asked_at = self._clock()
        token, life = await self._fetch()
        self._token, self._expires_at = token, asked_at + life
        self._refresh_at = self._expires_at - min(REFRESH_BEFORE, life / 2)
        return token


class ClientCredentials(Renewed[str]):
    """A source of access tokens: cached, refreshed early, one request at a time.

    Args:
        url: the token endpoint.
        client_id: who asks.
        client_secret: sent by HTTP Basic (RFC 6749 section 2.3.1).
        scope: what to ask for; "" for the client's default.
        resource: the audience to ask for (RFC 8707); "" for none.
        ca: authorities to trust instead of the system's.
        sighting: where the endpoint's certificate is remembered.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str = "",
        resource: str = "",
        ca: Path | None = None,
        sighting: Sighting | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        # Form-encoded before they are joined, so that a colon in either does no harm.
        basic = aiohttp.encode_basic_auth(quote_plus(client_id), quote_plus(client_secret))
        self._headers = {"Authorization": basic}
        fields = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
        self._form = {key: value for key, value in fields.items() if value}
        self._ca = ca
        self._sighting = sighting
        super().__init__(self._ask, clock)

    async def _ask(self) -> tuple[str, float]:
        answer, status = await post(self._url, self._form, self._headers, self._ca, self._sighting)
        token, life = answer.get("access_token"), answer.get("expires_in", _DEFAULT_LIFE)
        if not isinstance(token, str) or not token or isinstance(life, bool) or not isinstance(life, int | float):
            raise refused(self._url, answer, status)
        return token, life


async def post(
    url: str,
    body: bytes | dict[str, str],
    headers: Mapping[str, str],
    ca: Path | None = None,
    sighting: Sighting | None = None,
) -> tuple[dict[str, Any], int]:
    """Ask a token endpoint: the JSON object that it answers, empty where it is none, and the status.

    Args:
        url: of the endpoint; reached through a proxy where the environment says so.
        body: what is posted.
        headers: of the request.
        ca: authorities to trust instead of the system's.
        sighting: where the endpoint's certificate is remembered.

    Raises:
        TokenError: it cannot be reached.
    """
    try:
        async with (
            http.open_session(ca=ca) as session,
            session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=_TIMEOUT, **way(url)
            ) as response,
        ):
            http.note_certificate(response, sighting)
            return _decode(await _read(response)), response.status
    except (http.FetchError, ProxyError) as error:
        raise TokenError(f"The token endpoint {url} cannot be reached: {error.message}") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        told = "timed out" if isinstance(error, TimeoutError) else http.reason(error)
        raise TokenError(f"The token endpoint {url} cannot be reached: {told}") from error


def refused(url: str, answer: Mapping[str, Any], status: int) -> TokenError:
    """The failure of an endpoint that gave no token, with its reason."""
    reason = answer.get("error_description") or answer.get("error") or answer.get("message") or f"HTTP {status}"
    return TokenError(f"The token endpoint {url} gave no token: {str(reason)[:200]}")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BYTES:
            return b""
    return bytes(body)


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
