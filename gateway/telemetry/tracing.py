"""OpenTelemetry traces: the request, the tool call and the SQL, tied by one correlation id.

Spans go out by OTLP when the standard variables name a collector
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_PROTOCOL`, `OTEL_TRACES_SAMPLER`, ...);
without one, nothing is recorded and a span costs next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.context import Call

_tracer: Final = trace.get_tracer("gateway", __version__)
_propagator: Final = TraceContextTextMapPropagator()
_FLUSH_MS: Final = 5000
_recording: Final[list[TracerProvider]] = []
"""Who records spans; while nobody does, none is made but to carry a caller's trace into the log."""
_SILENCE: Final = nullcontext(trace.INVALID_SPAN)

# OpenTelemetry's names for the engines (semantic conventions for databases, `db.system.name`).
_SYSTEMS: Final = {"postgres": "postgresql", "mysql": "mysql", "oracle": "oracle.db", "sqlite": "sqlite"}


def _exporter() -> SpanExporter:
    # Imported here, because the gRPC stack is heavy and most processes need only one of the two.
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter()


def record_with(provider: TracerProvider) -> None:
    """Record every span from now on; OpenTelemetry takes one provider for each process."""
    trace.set_tracer_provider(provider)
    _recording.append(provider)


@contextmanager
def open_tracing(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Export spans while the block runs, if the environment names a collector; flush at its end."""
    named = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not named or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    resource = Resource.create({"service.name": "mcp-database-gateway", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    record_with(provider)
    try:
        yield
    finally:
        _recording.remove(provider)
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()


def remote_parent(carrier: Mapping[str, Any]) -> Context | None:
    """The caller's trace context from `traceparent`/`tracestate` in headers or `params._meta`."""
    if not isinstance(carrier.get("traceparent"), str):
        return None
    known = {key: value for key, value in carrier.items() if isinstance(value, str)}
    return _propagator.extract(known)


def request_span(
    method: str, path: str, correlation_id: str, headers: Mapping[str, str]
) -> AbstractContextManager[Span]:
    """The HTTP server span; its parent is the caller's `traceparent` header."""
    if not _recording and "traceparent" not in headers:
        return _SILENCE
    attributes = {"http.request.method": method, "url.path": path, "correlation.id": correlation_id}
    parent = remote_parent({key: headers[key] for key in ("traceparent", "tracestate") if key in headers})
    return _tracer.start_as_current_span(
        f"{method} {path}", parent, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
    )


def tool_span(call: Call, tool: str, protocol_version: str, meta: Mapping[str, Any]) -> AbstractContextManager[Span]:
    """The span `tools/call {tool}`: parent from `_meta.traceparent`, linked to the HTTP span then."""
    if not _recording and "traceparent" not in meta:
        return _SILENCE
    parent = remote_parent(meta)
    links = [trace.Link(trace.get_current_span().get_span_context())] if parent is not None else None
    attributes = {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": protocol_version,
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "correlation.id": call.correlation_id,
    }
    return _tracer.start_as_current_span(
        f"tools/call {tool}",
        parent,
        SpanKind.SERVER,
        attributes,
        links,
        record_exception=False,
        set_status_on_exception=False,
    )


def database_span(call: Call, source: str, dialect: str, tool: str, text: str) -> AbstractContextManager[Span]:
    """The client span around one statement; the text is the author's, with placeholders and no values."""
    if not _recording:
        return _SILENCE
    attributes = {
        "db.system.name": _SYSTEMS.get(dialect, "other_sql"),
        "db.namespace": source,
        "db.query.summary": tool,
        "db.query.text": text,
        "correlation.id": call.correlation_id,
    }
    return _tracer.start_as_current_span(
        tool, None, SpanKind.CLIENT, attributes, record_exception=False, set_status_on_exception=False
    )


def trace_id() -> str:
    """The current trace's id; "" where there is none."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def mark_failed(span: Span, error_type: str) -> None:
    """Set the span's status; the error's text stays out, because it may quote the caller."""
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)
