"""Who may come how often, and how much of it at once: limits by client, by tool and by address."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from gateway.config.limits import ClientLimitSettings, LimitSettings
from gateway.context import Call, Principal
from gateway.errors import RateLimited, Unauthenticated, whole_seconds
from gateway.net.redis import Redis
from gateway.resilience.concurrency import Slots
from gateway.resilience.ratelimit import Rate, RateLimiter
from gateway.resilience.sharedlimit import SharedLimiter

QUEUE: Final = 4
"""Calls that may wait for each that may run."""
_RETRY: Final = 1.0
_NO_TOKEN: Final = 0.25
# The part of an IPv6 address that a subscriber chooses freely (RFC 6177, RFC 4291 section 2.5.4).
_INTERFACE_BITS: Final = 64


class Allowance(NamedTuple):
    """What one client may use.

    Attributes:
        client: who is counted.
        bucket: whose requests the rate counts.
        rate: of requests.
        concurrency: tool calls that run at once.
    """

    client: tuple[str, ...]
    bucket: tuple[str, ...]
    rate: Rate
    concurrency: int


class FailedLogins:
    """Requests of each address that failed authentication. Bounded, and always of this process alone."""

    def __init__(self, settings: LimitSettings) -> None:
        self._rate = Rate(settings.failed_logins_per_minute, settings.failed_logins_burst)
        self._limiter = RateLimiter(settings.max_clients)

    def __len__(self) -> int:
        """Addresses remembered now."""
        return len(self._limiter)

    def check(self, address: str) -> None:
        """Let an address try.

        Raises:
            RateLimited: it failed too often.
        """
        wait = self._limiter.wait(network_of(address), self._rate)
        if wait > 0:
            detail = "limits.failed_logins_per_minute; is this a proxy that server.trusted_proxies lacks?"
            message = f"Too many requests without a valid token; wait {whole_seconds(wait)} s, then call with one."
            raise RateLimited(wait, "address", message, detail=detail)

    def count(self, address: str, error: Unauthenticated) -> None:
        """Count a failure; a request that brought no token, as a client's first does, is a part of one."""
        self._limiter.charge(network_of(address), self._rate, 1.0 if error.reason else _NO_TOKEN)


def network_of(address: str) -> str | int:
    """What one subscriber holds: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else int(parsed) >> _INTERFACE_BITS
    return address


class _Counter:
    """Buckets in this process, or shared by all replicas."""

    def __init__(self, max_clients: int, redis: Redis | None) -> None:
        self.local = RateLimiter(max_clients)
        self.shared = SharedLimiter(redis, self.local) if redis else None

    async def take(self, key: tuple[str, ...], rate: Rate) -> float:
        return self.local.admit(key, rate) if self.shared is None else await self.shared.admit(key, rate)


class Admission:
    """Counts what verified clients do, and refuses what is too much.

    Args:
        settings: the limits.
        redis: where rates are counted for all replicas; in this process when absent.
    """

    def __init__(self, settings: LimitSettings, redis: Redis | None = None) -> None:
        self._settings = settings
        self._default = Rate(settings.requests_per_minute, settings.burst)
        self._clients = {
            _name(each): _Named(place, each.concurrency or settings.concurrency_per_client, self._own_rate(each))
            for place, each in enumerate(settings.clients)
        }
        self._scopes = [(each.scope, self._rate(each.requests_per_minute, each.burst)) for each in settings.scopes]
        self._tools = {name: self._rate(each.requests_per_minute, each.burst) for name, each in settings.tools.items()}
        self._requests = _Counter(settings.max_clients, redis)
        # Apart, so that those who call many tools cannot push out anybody's requests.
        self._calls = _Counter(settings.max_clients, redis)
        self._slots = Slots()
        self.failed_logins = FailedLogins(settings)

    @property
    def remembered(self) -> int:
        """Entries in memory: of clients, of their tools, of addresses and of calls under way."""
        return len(self._requests.local) + len(self._calls.local) + len(self.failed_logins) + len(self._slots)

    @property
    def fallbacks(self) -> int:
        """Requests that were counted in this process because Redis gave no answer."""
        return sum(each.shared.fallbacks for each in (self._requests, self._calls) if each.shared)

    def _rate(self, per_minute: int, burst: int | None) -> Rate:
        return Rate(per_minute, burst or min(self._settings.burst, per_minute))

    def _own_rate(self, client: ClientLimitSettings) -> Rate | None:
        return self._rate(client.requests_per_minute, client.burst) if client.requests_per_minute else None

    def allowance(self, principal: Principal) -> Allowance:
        """What a caller may use: by the first of `limits.clients` that names it, of `limits.scopes`, the default."""
        client, concurrency = principal.client, self._settings.concurrency_per_client
        if self._clients:
            names = ((principal.issuer, principal.client_id, ""), (principal.issuer, "", principal.subject))
            found = [(self._clients[name], name) for name in names if name in self._clients]
            if found:
                (_, concurrency, rate), client = min(found)
                if rate is not None:
                    return Allowance(client, client, rate, concurrency)
        for scope, rate in self._scopes:
            if scope in principal.scopes:
                return Allowance(client, (*client, scope), rate, concurrency)
        return Allowance(client, client, self._default, concurrency)

    async def admit(self, principal: Principal) -> None:
        """Count one request of a client.

        Raises:
            RateLimited: its budget is used up.
        """
        allowance = self.allowance(principal)
        wait = await self._requests.take(allowance.bucket, allowance.rate)
        if wait > 0:
            raise RateLimited(wait, detail="limits.requests_per_minute")

    def running(self, call: Call, tool: str) -> AbstractAsyncContextManager[None]:
        """Count one call of a tool, and let it be one of those that run while the block does.

        Entering raises RateLimited: the client's budget for this tool is used up, or too many of its calls run.
        """
        return _Running(self, call, tool)

    async def begin(self, call: Call, tool: str) -> tuple[str, ...]:
        """What `running` does first; who is counted, and must be told to `end`.

        Raises:
            RateLimited: see `running`.
        """
        client, _, _, most = self.allowance(call.principal)
        rate = self._tools.get(tool)
        if rate is not None:
            wait = await self._calls.take(("tool", tool, *client), rate)
            if wait > 0:
                message = f"Too many calls of {tool}; wait {whole_seconds(wait)} s before you call it again."
                raise RateLimited(wait, "tool", message, detail=f"limits.tools.{tool}")
        if not self._slots.take(client, most):
            patience = min(self._settings.concurrency_wait, call.remaining())
            if not await self._slots.wait(client, patience, QUEUE * most):
                message = f"You have {self._slots.held(client)} calls running, and no more at once; let one end first."
                raise RateLimited(_RETRY, "concurrency", message, detail="limits.concurrency_per_client")
        return client

    def end(self, client: tuple[str, ...]) -> None:
        """One call of a client has ended."""
        self._slots.release(client)


class _Named(NamedTuple):
    """The limits of a named client, and their place in the list."""

    place: int
    concurrency: int
    rate: Rate | None


class _Running:
    """`async with`: a class and no generator, since this is part of every call."""

    __slots__ = ("_admission", "_call", "_client", "_tool")

    def __init__(self, admission: Admission, call: Call, tool: str) -> None:
        self._admission = admission
        self._call = call
        self._tool = tool

    async def __aenter__(self) -> None:
        self._client = await self._admission.begin(self._call, self._tool)

    async def __aexit__(self, *_: object) -> None:
        self._admission.end(self._client)


def _name(client: ClientLimitSettings) -> tuple[str, str, str]:
    return (client.issuer, client.client_id or "", client.subject or "")
