"""What one client may use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from gateway.config.base import Name, Settings, Text
from gateway.config.units import Duration

LONGEST_WAIT: Final = 4.0
"""Seconds within which it is decided whether a call may run: less than an answer is silent before it streams."""

PerMinute = Annotated[int, Field(ge=1, le=1_000_000)]
Burst = Annotated[int, Field(ge=1, le=1_000_000)]


class ToolLimitSettings(Settings):
    """What one client may call of one tool."""

    requests_per_minute: PerMinute
    """Calls a minute for each client."""
    burst: Burst | None = None
    """Calls that may come at once; `limits.burst` when absent, but no more than `requests_per_minute`."""


class ScopeLimitSettings(Settings):
    """What a client may use whose token grants a scope."""

    scope: Text
    """The scope."""
    requests_per_minute: PerMinute
    """Requests a minute for each client."""
    burst: Burst | None = None
    """Requests that may come at once; `limits.burst` when absent, but no more than `requests_per_minute`."""


class ClientLimitSettings(Settings):
    """What one named client may use."""

    issuer: Text
    """Whose tokens it brings, one of `auth.issuers`."""
    client_id: Text | None = None
    """The OAuth client; all its users count together."""
    subject: Text | None = None
    """Or a subject, whatever client it uses."""
    requests_per_minute: PerMinute | None = None
    """Requests a minute; the scope's or the default when absent."""
    burst: Burst | None = None
    """Requests that may come at once; `limits.burst` when absent, but no more than `requests_per_minute`."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Tool calls that run at once; `limits.concurrency_per_client` when absent."""


class LimitSettings(Settings):
    """What one client may use."""

    requests_per_minute: PerMinute = 100
    """Requests a minute for each client."""
    burst: Burst = 20
    """Requests that may come at once."""
    clients: tuple[ClientLimitSettings, ...] = ()
    """Other limits for named clients; the first that fits counts."""
    scopes: tuple[ScopeLimitSettings, ...] = ()
    """Other rates for clients whose token grants a scope; the first that fits counts, after `clients`."""
    tools: Annotated[Mapping[Name, ToolLimitSettings], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    """Rates of single tools, by name; each client has one for each of them, beside its own."""
    concurrency_per_client: Annotated[int, Field(ge=1)] = 4
    """Tool calls of one client that run at once; further ones wait in line, four times as many."""
    concurrency_wait: Annotated[Duration, Field(le=LONGEST_WAIT)] = 3.0
    """How long they wait before they are refused; at most 4s."""
    listeners_per_caller: Annotated[int, Field(ge=1)] = 20
    """Streams of `subscriptions/listen` that one subject may hold open through one client; no calls that run."""
    max_listeners: Annotated[int, Field(ge=1)] = 10000
    """Such streams of all clients of one process together."""
    failed_logins_per_minute: PerMinute = 20
    """Requests a minute from one address (IPv6: /64) that may fail authentication; one without a token is a quarter."""
    failed_logins_burst: Burst = 10
    """How many of them may come at once."""
    max_clients: Annotated[int, Field(ge=1)] = 10000
    """Most clients, and most addresses, remembered at once; the longest idle is forgotten first."""
    backend: Literal["memory", "redis"] = "memory"
    """Where rates are counted: in each process, or in `redis` for all replicas together."""
