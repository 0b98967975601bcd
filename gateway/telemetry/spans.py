"""Spans out of timestamps: what a request left becomes a tree, as OpenTelemetry's conventions name things."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway import __version__
from gateway.context import Mark
from gateway.telemetry.instruments import SYSTEMS
from gateway.telemetry.tracing import Parent, Served

_SCOPE: Final = InstrumentationScope("gateway", __version__)
_FLAGS: Final = TraceFlags(TraceFlags.SAMPLED)
_NEVER_TOLD: Final = frozenset({"", "ok"})

Value = str | int | float


class _Tree:
    """The spans of one request while they are being made."""

    def __init__(self, served: Served, resource: Resource) -> None:
        self._served = served
        self._resource = resource
        self.spans: list[ReadableSpan] = []

    def add(
        self,
        name: str,
        times: tuple[float, float],
        context: SpanContext,
        parent: SpanContext | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] = {},
        error: str = "",
        links: tuple[Link, ...] = (),
    ) -> None:
        """Add a span; its texts are ours, never a failure's own, which may quote the caller."""
        told: dict[str, Value] = {"correlation.id": self._served.correlation_id, **attributes}
        if error:
            told["error.type"] = error
        self.spans.append(
            ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                told,
                links=links,
                kind=kind,
                status=Status(StatusCode.ERROR) if error else Status(),
                start_time=self._wall(times[0]),
                end_time=self._wall(times[1]),
                instrumentation_scope=_SCOPE,
            )
        )

    def _wall(self, moment: float) -> int:
        return self._served.trace.wall + round((moment - self._served.trace.started) * 1e9)


def spans_of(served: Served, resource: Resource) -> list[ReadableSpan]:
    """The tree: HTTP, the verification if there was one, the MCP method, attempts, waiting, connecting, statements."""
    trace, tree = served.trace, _Tree(served, resource)
    http = _context(trace.trace_id, trace.span_id) if served.http_method else None
    method = _context(trace.innermost[0], trace.tool_span_id or _new_id()) if served.method else None
    if http is not None:
        _add_http(tree, served, http, method)
    outermost = http or method
    for stage, started, ended, code, _ in served.marks:
        if stage == "verify" and outermost is not None:
            tree.add("verify token", (started, ended), _child(outermost), outermost, error=code)
    if method is not None:
        _add_method(tree, served, method, http)
    return tree.spans


def _add_http(tree: _Tree, served: Served, context: SpanContext, method: SpanContext | None) -> None:
    trace = served.trace
    tree.add(
        f"{served.http_method} {served.path}",
        (trace.started, served.ended),
        context,
        _remote(trace.parent),
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": served.http_method,
            "http.response.status_code": served.status,
            "url.path": served.path,
        },
        error=_http_error(served),
        links=(Link(method),) if trace.tool_parent is not None and method is not None else (),
    )


def _http_error(served: Served) -> str:
    if served.status >= 500:
        return str(served.status)
    return "disconnected" if served.status == 0 else ""


def _add_method(tree: _Tree, served: Served, context: SpanContext, http: SpanContext | None) -> None:
    """The span `tools/call {tool}`, or that of another method, and what it did."""
    method = served.method
    mark = next((each for each in served.marks if each[0] == "tool"), None)
    attributes: dict[str, Value] = {"mcp.method.name": method}
    if http is None:
        attributes["network.transport"] = "pipe"
    if method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    if served.tool:
        attributes["gen_ai.tool.name"] = served.tool
    error = "" if served.outcome in _NEVER_TOLD else served.outcome
    times = (served.trace.started, served.ended)
    if mark is not None:
        _, started, ended, code, version = mark
        times = (started, ended)
        attributes["mcp.protocol.version"] = version
        # A failed call is a result: its type is fixed by the conventions for MCP, our code stands beside it.
        error = {"": "", "cancelled": "cancelled"}.get(code, "tool_error")
        if code:
            attributes["gateway.error.code"] = code
    parent = served.trace.tool_parent
    tree.add(
        f"{method} {served.tool}".rstrip(),
        times,
        context,
        _remote(parent) if parent else http,
        kind=SpanKind.SERVER,
        attributes=attributes,
        error=error,
        links=(Link(http),) if parent and http is not None else (),
    )
    _add_work(tree, served, context)


def _add_work(tree: _Tree, served: Served, method: SpanContext) -> None:
    attempts = [(mark, _child(method)) for mark in served.marks if mark[0] == "attempt"]
    for (_, started, ended, code, number), context in attempts:
        tree.add("attempt", (started, ended), context, method, attributes={"gateway.attempt": number}, error=code)
    for mark in served.marks:
        # Attempts follow one another, so what began within one belongs to it.
        parent = next((context for whole, context in attempts if whole[1] <= mark[1] <= whole[2]), method)
        if mark[0] == "wait":
            _add_wait(tree, mark, parent)
        elif mark[0] == "statement":
            _add_statement(tree, mark, parent)


def _add_wait(tree: _Tree, mark: Mark, parent: SpanContext) -> None:
    _, started, ended, code, opened = mark
    context = _child(parent)
    tree.add("wait for a connection", (started, ended), context, parent, error=code)
    if opened is not None:
        tree.add("connect", opened, _child(context), context, kind=SpanKind.CLIENT)


def _add_statement(tree: _Tree, mark: Mark, parent: SpanContext) -> None:
    """The author's text with placeholders; values never."""
    _, started, ended, code, (source, dialect, statement) = mark
    attributes = {
        "db.system.name": SYSTEMS.get(dialect, "other_sql"),
        "db.namespace": source,
        "db.query.summary": statement.name,
        "db.query.text": statement.text,
    }
    tree.add(
        statement.name,
        (started, ended),
        _child(parent),
        parent,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        error=code,
    )


def _new_id() -> int:
    return random.getrandbits(64) or 1


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, False, _FLAGS)


def _child(parent: SpanContext) -> SpanContext:
    return _context(parent.trace_id, _new_id())


def _remote(parent: Parent | None) -> SpanContext | None:
    return SpanContext(parent.trace_id, parent.span_id, True, _FLAGS) if parent else None
