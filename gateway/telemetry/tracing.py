"""Traces: one from the agent's request to the SQL, tied to everything else by the correlation id.

A request takes timestamps only (`gateway.context.Mark`). When it has ended, it
is decided whether it is told of: because its caller's trace or the dice said
so, or because it proved slow or failed. Only then are spans made of it, by the
exporter's thread (`gateway.telemetry.export`, `gateway.telemetry.spans`).
"""

from __future__ import annotations

import contextvars
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.config.telemetry import TraceSettings
from gateway.context import Mark

# W3C Trace Context, section 3.2; later versions may append fields.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_MAX_TRACEPARENT: Final = 128
_SAMPLED: Final = 1
_LOW_64_BITS: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Parent:
    """A caller's span."""

    trace_id: int
    span_id: int
    is_sampled: bool


def parent_of(carrier: Mapping[str, Any]) -> Parent | None:
    """The caller's span from `traceparent` in headers or in `params._meta`; None without one that is well-formed."""
    text = carrier.get("traceparent")
    if not isinstance(text, str) or len(text) > _MAX_TRACEPARENT or not (found := _TRACEPARENT.fullmatch(text)):
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    return Parent(trace_id, span_id, bool(flags & _SAMPLED)) if trace_id and span_id else None


class Trace:
    """The ids of one request, and whether it is sampled.

    Attributes:
        trace_id: of the HTTP span; 0 where there is no trace.
        span_id: of the HTTP span.
        parent: the caller's span, from the HTTP header.
        tool_parent: the caller's span, from `params._meta`: the tool's span belongs to that trace then.
        tool_span_id: of the span of the MCP method.
        is_sampled: whether it is told of in any case.
        wall: Unix time in nanoseconds when `time.perf_counter()` was `started`.
    """

    __slots__ = ("is_sampled", "parent", "span_id", "started", "tool_parent", "tool_span_id", "trace_id", "wall")

    def __init__(self, trace_id: int, span_id: int, parent: Parent | None, *, is_sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent = parent
        self.tool_parent: Parent | None = None
        self.tool_span_id = 0
        self.is_sampled = is_sampled
        self.wall = time.time_ns()
        self.started = time.perf_counter()

    @property
    def innermost(self) -> tuple[int, int]:
        """Trace and span that work belongs to now: the tool's once that has begun."""
        trace_id = self.tool_parent.trace_id if self.tool_parent else self.trace_id
        return trace_id, self.tool_span_id or self.span_id

    def enter(self, meta: Mapping[str, Any] | None) -> None:
        """Begin the span of the MCP method; its parent is `params._meta.traceparent`, else the HTTP span."""
        if self.trace_id:
            self.tool_span_id = random.getrandbits(64) or 1
        if meta and "traceparent" in meta and (parent := parent_of(meta)):
            self.tool_parent = parent
            self.tool_span_id = self.tool_span_id or parent.span_id
            # Of two callers' decisions one that keeps is enough; the dice have no say where a caller has.
            self.is_sampled = parent.is_sampled or (self.parent is not None and self.is_sampled)


_NOTHING: Final = Trace(0, 0, None, is_sampled=False)
_current: contextvars.ContextVar[Trace] = contextvars.ContextVar("trace", default=_NOTHING)


def current() -> Trace:
    """The trace of the request being served; one without ids where there is none."""
    return _current.get()


def trace_id() -> str:
    """The current trace's id; "" where there is none."""
    found, _ = _current.get().innermost
    return f"{found:032x}" if found else ""


@dataclass(frozen=True, slots=True)
class Served:
    """A request that has ended, ready to be told of.

    Attributes:
        trace: its ids.
        correlation_id: of the request.
        http_method: of the request; "" where there is no HTTP, and the MCP method's span is the first one.
        path: one of ours.
        status: the HTTP status; 0 when the client left before there was one.
        method: the JSON-RPC method, "" when nothing was understood.
        tool: a tool that exists, or "".
        outcome: as in the log line.
        marks: its stages.
        ended: `time.perf_counter()` at its end.
    """

    trace: Trace
    correlation_id: str
    http_method: str
    path: str
    status: int
    method: str
    tool: str
    outcome: str
    marks: Sequence[Mark]
    ended: float


class Outlet(Protocol):
    """Takes what is to be told; never blocks."""

    def offer(self, served: Served, *, is_ordinary: bool) -> None:
        """Take one request, or drop it when there is no room; less for ordinary ones than for slow and failed ones."""


class Tracer:
    """Decides which requests are told of.

    Args:
        settings: the shares.
        outlet: where they go; None while no collector is named.
        environment: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` go before the settings.
    """

    def __init__(
        self, settings: TraceSettings, outlet: Outlet | None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._outlet = outlet
        self._slow = settings.slow
        self._ratio = _ratio(environment, settings.sample)
        self._bound = round(self._ratio * (_LOW_64_BITS + 1))

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """The trace of a request that has just come; it is the current one from now on."""
        parent = parent_of(headers) if "traceparent" in headers else None
        if self._outlet is None and parent is None:
            trace = Trace(0, 0, None, is_sampled=False)
        else:
            bits = random.getrandbits(192)
            trace_id = parent.trace_id if parent else (bits >> 64) or 1
            # As OpenTelemetry's ratio sampler has it: every service that sees this trace decides the same.
            is_sampled = parent.is_sampled if parent else trace_id & _LOW_64_BITS < self._bound
            trace = Trace(trace_id, bits & _LOW_64_BITS or 1, parent, is_sampled=is_sampled)
        _current.set(trace)
        return trace

    def wants(self, trace: Trace, seconds: float, *, is_failed: bool, is_known: bool) -> bool:
        """Whether a request that has ended is told of.

        Args:
            trace: its own.
            seconds: how long it took.
            is_failed: whether its call failed.
            is_known: whether a verified caller sent it; a stranger's wish to be sampled could fill any buffer.
        """
        if self._outlet is None:
            return False
        is_wish = trace.parent is not None and not is_known
        is_sampled = random.random() < self._ratio if is_wish else trace.is_sampled  # noqa: S311 - no secret
        return is_sampled or is_failed or seconds > self._slow

    def tell(self, served: Served, *, is_failed: bool) -> None:
        """Hand a request over to the exporter."""
        if self._outlet is not None:
            is_slow = served.ended - served.trace.started > self._slow
            self._outlet.offer(served, is_ordinary=not is_failed and not is_slow)


def _ratio(environment: Mapping[str, str], configured: float) -> float:
    """The share of traces that begin here (OpenTelemetry, environment variables, general SDK configuration)."""
    sampler = environment.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    if sampler == "traceidratio":
        try:
            return min(1.0, max(0.0, float(environment.get("OTEL_TRACES_SAMPLER_ARG", "1"))))
        except ValueError:
            return configured
    return {"always_on": 1.0, "always_off": 0.0}.get(sampler, configured)
