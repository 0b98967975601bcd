"""Who asks, and until when: the frozen context that every stage is handed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

Report = Callable[[str], None]
"""Takes one line of progress for the caller; never blocks, drops when the reader is slow."""


MISSING: Final = object()
"""What `claim_at` finds where there is nothing."""


def ignore(_: str) -> None:
    """The report of a caller who asked for none."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Identity is the pair (issuer, subject); names are never used for rights.

    Attributes:
        issuer: the token's `iss`, exactly as configured.
        subject: `sub`, or the client id for an application's own token.
        client_id: the OAuth client, or "" when the token does not say.
        scopes: what the token grants.
        claims: every claim of the token.
        expires_at: Unix time in seconds.
        has_every_scope: only for `auth.mode: none` on loopback.
    """

    issuer: str
    subject: str
    client_id: str
    scopes: frozenset[str]
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    expires_at: float = float("inf")
    has_every_scope: bool = False

    @property
    def client(self) -> tuple[str, str, str]:
        """Whom limits count: the issuer with the OAuth client, or with the subject where the token names no client."""
        return (self.issuer, self.client_id, "" if self.client_id else self.subject)

    def grants(self, required: frozenset[str]) -> bool:
        """Whether the caller holds all of the required scopes."""
        return self.has_every_scope or required <= self.scopes


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through the house.

    Attributes:
        correlation_id: the id in the response, every log line, span and audit record.
        principal: the verified caller.
        deadline: the event loop's time, in seconds, at which the call must have ended.
        report: takes a line of progress for the caller.
    """

    correlation_id: str
    principal: Principal
    deadline: float
    report: Report = ignore

    def remaining(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at a dotted path, or `MISSING`; the longest name wins, since names may hold dots themselves."""
    if "." not in path:
        return claims.get(path, MISSING)
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        found = claims.get(".".join(parts[:length]), MISSING)
        if length == len(parts) and found is not MISSING:
            return found
        if isinstance(found, Mapping):
            inner = claim_at(found, ".".join(parts[length:]))
            if inner is not MISSING:
                return inner
    return MISSING
