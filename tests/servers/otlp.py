"""An OpenTelemetry collector's ears: OTLP over gRPC and HTTP with the official protobufs, kept for the test to read."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    """A span as it came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    kind: int
    is_error: bool
    start: int
    end: int


def _value(any_value: Any) -> Any:
    return getattr(any_value, any_value.WhichOneof("value"))


@dataclass
class Collector:
    """What was received.

    Attributes:
        endpoint: for `OTEL_EXPORTER_OTLP_ENDPOINT`.
        spans: in the order of arrival.
        metrics: the last export's, by name.
        raw: every message as it came.
    """

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)

    def take_traces(self, message: bytes) -> None:
        self.raw.append(message)
        for group in ExportTraceServiceRequest.FromString(message).resource_spans:
            for scope in group.scope_spans:
                self.spans.extend(_span(each) for each in scope.spans)

    def take_metrics(self, message: bytes) -> None:
        self.raw.append(message)
        for group in ExportMetricsServiceRequest.FromString(message).resource_metrics:
            for scope in group.scope_metrics:
                self.metrics = {each.name: each for each in scope.metrics}

    async def until(self, is_there: Callable[[], bool], limit: float = 15.0) -> None:
        async with asyncio.timeout(limit):
            while not is_there():  # noqa: ASYNC110 - filled by callbacks
                await asyncio.sleep(0.02)

    async def trace_with(self, correlation_id: str, names: Sequence[str]) -> dict[str, Span]:
        """The spans of one request, by name, once all the named ones are here."""

        def found() -> dict[str, Span]:
            mine = [span for span in self.spans if span.attributes.get("correlation.id") == correlation_id]
            return {span.name: span for span in mine}

        await self.until(lambda: set(names) <= found().keys())
        return found()


def _span(span: Any) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        {each.key: _value(each.value) for each in span.attributes},
        tuple(link.span_id.hex() for link in span.links),
        span.kind,
        span.status.code == 2,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


@asynccontextmanager
async def running_http_collector() -> AsyncIterator[Collector]:
    """OTLP/HTTP with protobuf bodies."""
    collector = Collector()

    async def body(request: web.Request) -> bytes:
        content = await request.read()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content

    async def traces(request: web.Request) -> web.Response:
        collector.take_traces(await body(request))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def metrics(request: web.Request) -> web.Response:
        collector.take_metrics(await body(request))
        return web.Response(
            body=ExportMetricsServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", traces)
    app.router.add_post("/v1/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_grpc_collector() -> AsyncIterator[Collector]:
    """OTLP/gRPC."""
    collector = Collector()

    async def traces(message: bytes, _: Any) -> bytes:
        collector.take_traces(message)
        return bytes(ExportTraceServiceResponse().SerializeToString())

    async def metrics(message: bytes, _: Any) -> bytes:
        collector.take_metrics(message)
        return bytes(ExportMetricsServiceResponse().SerializeToString())

    server = grpc.aio.server()
    for service, answer in (("trace.v1.TraceService", traces), ("metrics.v1.MetricsService", metrics)):
        handlers = {"Export": grpc.unary_unary_rpc_method_handler(answer)}
        name = f"opentelemetry.proto.collector.{service}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        collector.endpoint = f"http://127.0.0.1:{port}"
        yield collector
    finally:
        await server.stop(0)
