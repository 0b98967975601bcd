"""Who asks, and until when: the frozen context that every stage is handed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

Mark = tuple[str, float, float, str, Any]
"""What a stage leaves for metrics and spans: its name, when it began and ended, a code ("" if it went well), more.

Times are `time.perf_counter()`'s, in seconds. The stages and what more they tell are in `Call.mark`.
"""

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
        client: whom limits count: the issuer with the OAuth client, or with the subject where the token names none.
    """

    issuer: str
    subject: str
    client_id: str
    scopes: frozenset[str]
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    expires_at: float = float("inf")
    has_every_scope: bool = False
    client: tuple[str, str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        client = (self.issuer, self.client_id, "" if self.client_id else self.subject)
        object.__setattr__(self, "client", client)

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
        marks: when stages of the call began and ended; timestamps only, what is made of them is decided afterwards.
    """

    correlation_id: str
    principal: Principal
    deadline: float
    report: Report = ignore
    marks: list[Mark] = field(default_factory=list, compare=False, repr=False)

    def mark(self, stage: str, started: float, code: str = "", more: Any = None) -> None:
        """Note that a stage has just ended.

        Args:
            stage: "tool" (more: the protocol's revision), "attempt" (more: its number), "wait" (more: when the
                opening of its connection began and ended, if that was waited for), "statement" (more: its `Facts`).
            started: `time.perf_counter()` at its beginning.
            code: how it failed, or "".
            more: see stage.
        """
        self.marks.append((stage, started, time.perf_counter(), code, more))

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
