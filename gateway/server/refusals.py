"""Refusals as HTTP: status, JSON-RPC body, and the headers that tell a client what to do next."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from gateway.auth.metadata import challenge
from gateway.errors import (
    IdentityProviderUnavailable,
    InsufficientScope,
    RateLimited,
    Refused,
    ShuttingDown,
    Unauthenticated,
    to_wire,
    whole_seconds,
)
from gateway.server.jsonrpc import RequestId, error_bytes


class Refusals:
    """Answers requests that are turned away.

    Args:
        metadata_url: where the resource's OAuth metadata is (RFC 9728 section 5.1).
        scopes: what a first token should ask for.
        methods: what is served there.
    """

    def __init__(self, metadata_url: str, scopes: Iterable[str], methods: Iterable[str] = ("POST",)) -> None:
        self._metadata_url = metadata_url
        self._scopes = tuple(scopes)
        self._methods = ", ".join(sorted(methods))

    def headers(self, error: BaseException) -> dict[str, str]:
        """`WWW-Authenticate` (RFC 6750 section 3) or `Retry-After` (RFC 9110 section 10.2.3), where due."""
        match error:
            case Unauthenticated(reason=""):
                value = challenge(self._metadata_url, scopes=self._scopes)
                return {"WWW-Authenticate": value}
            case Unauthenticated():
                value = challenge(self._metadata_url, error="invalid_token", description=error.message)
                return {"WWW-Authenticate": value}
            case InsufficientScope():
                value = challenge(
                    self._metadata_url,
                    error="insufficient_scope",
                    description=error.message,
                    scopes=error.scopes,
                )
                return {"WWW-Authenticate": value}
            case RateLimited():
                return {"Retry-After": str(whole_seconds(error.retry_after))}
            case IdentityProviderUnavailable() | ShuttingDown() | Refused(status=503):
                return {"Retry-After": "5"}
            case Refused(status=405):
                return {"Allow": self._methods}
            case _:
                return {}

    def respond(
        self, error: BaseException, correlation_id: str, status: int | None = None, identifier: RequestId | None = None
    ) -> web.Response:
        """The whole answer; `status` overrides the table's where the protocol era asks for another."""
        wire = to_wire(error)
        return web.Response(
            body=error_bytes(identifier, wire.code, wire.message, wire.data),
            status=status or wire.status,
            content_type="application/json",
            headers={"X-Request-ID": correlation_id} | self.headers(error),
        )
