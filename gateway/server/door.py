"""The door, in this order: Host and Origin, correlation id, token, rate. Nothing is parsed for a stranger."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway.auth.bearer import bearer_token
from gateway.config.addresses import is_loopback
from gateway.config.server import ServerSettings
from gateway.context import Principal
from gateway.errors import IdentityProviderUnavailable, Refused, Unauthenticated
from gateway.server.admission import FailedLogins
from gateway.server.endpoint import Endpoint
from gateway.server.snapshot import Snapshot

_BEARER: Final = "Bearer "
_CORRELATION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def correlation_id(request: web.BaseRequest) -> str:
    """The caller's `X-Request-ID` when it is harmless, else a new one of 128 bits: unique, and no secret."""
    offered = request.headers.get("X-Request-ID")
    if offered is not None and _CORRELATION.fullmatch(offered):
        return offered
    return new_correlation_id()


def new_correlation_id() -> str:
    """An id for what came without one."""
    return f"{random.getrandbits(128):032x}"


@lru_cache(maxsize=256)
def _host_of(authority: str) -> str:
    """The host of a Host header, lower case and without its port; "" when malformed."""
    try:
        parts = urlsplit(f"//{authority}")
        return "" if parts.username or parts.path or parts.query else (parts.hostname or "")
    except ValueError:
        return ""


class Origins:
    """Which Host and Origin values are ours: the fence against DNS rebinding (MCP transports, security warning)."""

    def __init__(self, settings: ServerSettings) -> None:
        public = [settings.public_url] if settings.public_url else []
        self._on_loopback = is_loopback(settings.host)
        self._hosts = frozenset(
            _host_of(authority)
            for authority in (*settings.allowed_hosts, settings.host, *(urlsplit(url).netloc for url in public))
        )
        self._origins = frozenset(origin.rstrip("/").lower() for origin in (*settings.allowed_origins, *public))

    def check(self, hosts: Iterable[str], origin: str | None) -> None:
        """Let a request through whose Host is ours and whose Origin, if any, is allowed.

        Raises:
            Refused: 421 for a foreign Host, 403 for a foreign Origin.
        """
        named = [_host_of(host) for host in hosts]
        if len(named) != 1 or not (named[0] in self._hosts or (self._on_loopback and is_loopback(named[0]))):
            raise Refused(421, "This Host is not served here; the operator lists names in server.allowed_hosts.")
        if origin is not None and origin.lower() not in self._origins and not self._is_local(origin):
            raise Refused(403, "This Origin is not allowed; the operator lists origins in server.allowed_origins.")

    def _is_local(self, origin: str) -> bool:
        try:
            return self._on_loopback and is_loopback(urlsplit(origin).hostname or "")
        except ValueError:
            return False


class Proxies:
    """Whose word is taken for where a request comes from.

    Args:
        networks: CIDR blocks of the proxies in front.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)

    def client_address(self, peer: str, forwarded: Sequence[str]) -> str:
        """The nearest address that is not one of our proxies; beyond it anybody may have written anything.

        Args:
            peer: the address of the connection.
            forwarded: the values of X-Forwarded-For, in order.
        """
        if not (self._networks and forwarded):
            return peer
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        address = peer
        while hops and self._is_trusted(address):
            address = hops.pop()
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            return peer

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


async def authenticate(
    request: web.BaseRequest, snapshot: Snapshot, endpoint: Endpoint, failures: FailedLogins, address: str
) -> tuple[Principal, bool]:
    """The principal behind the request's bearer token, with everything that its scopes imply,
    and whether the verdict is new.

    An address that failed too often gets no token looked at, except one that is known to be good.

    Raises:
        Unauthenticated: no token, two tokens, or one that does not verify or is not for this endpoint.
        RateLimited: too many of these from this address.
        IdentityProviderUnavailable: nothing to verify it with yet.
    """
    try:
        principal, is_new = await _verified(request, snapshot, failures, address)
        endpoint.check(principal)
    except Unauthenticated as error:
        failures.check(address)
        failures.count(address, error)
        raise
    return snapshot.scopes.enlarge(principal), is_new


async def _verified(
    request: web.BaseRequest, snapshot: Snapshot, failures: FailedLogins, address: str
) -> tuple[Principal, bool]:
    verifier = snapshot.verifier
    if snapshot.settings.auth.mode == "none":
        return await verifier.verify(""), False
    values = request.headers.getall("Authorization", [])
    has_query = "?" in request.raw_path
    # What was verified before need not be judged by its form again.
    is_usual = len(values) == 1 and not has_query and values[0].startswith(_BEARER)
    if is_usual and (principal := verifier.known(values[0][len(_BEARER) :])):
        return principal, False
    token = bearer_token(values, request.query.keys() if has_query else ())
    if principal := verifier.known(token):
        return principal, False
    failures.check(address)
    try:
        async with asyncio.timeout(snapshot.settings.server.call_timeout):
            return await verifier.verify(token), True
    except TimeoutError:
        raise IdentityProviderUnavailable(
            "The access token could not be checked in time; try again in a few seconds.",
            detail="the provider kept the token waiting for server.call_timeout",
        ) from None
