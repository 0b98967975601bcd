"""Contradictions in `limits`."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.issuers import misfits, resolve
from gateway.config.limits import LONGEST_WAIT, ClientLimitSettings
from gateway.config.models import GatewaySettings
from gateway.config.problems import Finding
from gateway.config.validation import suggestion


def limits(settings: GatewaySettings) -> Iterator[Finding]:
    """What is wrong with the limits of clients, scopes and tools."""
    yield from _clients(settings)
    seen: dict[str, int] = {}
    for index, each in enumerate(settings.limits.scopes):
        if (first := seen.setdefault(each.scope, index)) != index:
            message = f"the same as limits.scopes.{first}, which always comes first"
            yield Finding(("limits", "scopes", index, "scope"), message, (("limits", "scopes", first),))
    for name in settings.limits.tools:
        if name not in settings.tools:
            message = "there is no tool of this name" + suggestion(name, tuple(sorted(settings.tools)))
            yield Finding(("limits", "tools", name), message, (("tools", name),))
    if settings.limits.backend == "redis" and settings.redis is None:
        message = "redis needs the section redis, which says where it is"
        yield Finding(("limits", "backend"), message, (("redis",),))
    elif settings.limits.backend == "redis" and settings.redis is not None:
        # Both waits end before an answer would begin to stream, so that a refusal still has its status.
        most = LONGEST_WAIT - settings.redis.timeout
        if settings.limits.concurrency_wait > most:
            message = (
                f"expected at most {LONGEST_WAIT:g}s together with redis.timeout, which is {settings.redis.timeout:g}s"
            )
            yield Finding(("limits", "concurrency_wait"), message, (("redis", "timeout"),))


def _clients(settings: GatewaySettings) -> Iterator[Finding]:
    is_clear = not any(tuple(misfits((), each)) for each in settings.auth.issuers)
    issuers = tuple(resolve(each).issuer for each in settings.auth.issuers) if is_clear else ()
    seen: dict[tuple[str, str | None, str | None], int] = {}
    for index, each in enumerate(settings.limits.clients):
        path = ("limits", "clients", index)
        if trouble := _trouble(each):
            yield Finding(path, trouble)
        if issuers and each.issuer not in issuers:
            message = "there is no such issuer in auth.issuers" + suggestion(each.issuer, issuers)
            yield Finding((*path, "issuer"), message, (("auth", "issuers"),))
        first = seen.setdefault((each.issuer, each.client_id, each.subject), index)
        if first != index:
            message = f"the same client as limits.clients.{first}, which always comes first"
            yield Finding(path, message, (("limits", "clients", first),))


def _trouble(client: ClientLimitSettings) -> str:
    if (client.client_id is None) == (client.subject is None):
        return "expected either client_id or subject"
    if client.requests_per_minute is None and client.concurrency is None:
        return "expected requests_per_minute or concurrency; without them nothing differs"
    if client.burst is not None and client.requests_per_minute is None:
        return "expected requests_per_minute beside burst"
    return ""
