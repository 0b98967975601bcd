"""Traces as a collector gets them, by gRPC and by HTTP: the tree, the ids and the attributes of every kind of call."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.server.streams import Client
from tests.servers.local import free_port
from tests.servers.otlp import Collector, Span, running_grpc_collector, running_http_collector
from tests.world import CONFIGURATION, Reply, World, envelope, open_world, routing

ALL = CONFIGURATION + "telemetry: {traces: {sample: 1.0}}\n"
NONE = CONFIGURATION + "telemetry: {traces: {sample: 0.0, slow: 300ms}}\n"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(params=["grpc", "http/protobuf"])
def protocol(request: pytest.FixtureRequest) -> str:
    """How spans travel."""
    return str(request.param)


def _name(monkeypatch: pytest.MonkeyPatch, collector: Collector, protocol: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")


@asynccontextmanager
async def traced(
    monkeypatch: pytest.MonkeyPatch, folder: Path, configuration: str = ALL, protocol: str = "http/protobuf"
) -> AsyncIterator[tuple[World, Collector]]:
    opened = running_grpc_collector if protocol == "grpc" else running_http_collector
    async with opened() as collector:
        _name(monkeypatch, collector, protocol)
        async with open_world(folder, configuration) as world:
            yield world, collector


async def call(
    world: World, tool: str, arguments: dict[str, object], identifier: str, *, client: str = "reader", meta: str = ""
) -> Reply:
    return await world.modern(
        "tools/call",
        {"name": tool, "arguments": arguments},
        client=client,
        meta={"traceparent": meta} if meta else None,
        headers={"X-Request-ID": identifier},
    )


def are_one_trace(spans: dict[str, Span]) -> bool:
    ids = {span.span_id for span in spans.values()}
    roots = [span for span in spans.values() if span.parent_id not in ids]
    is_nested = all(
        outer.start <= inner.start and inner.end <= outer.end
        for inner in spans.values()
        for outer in spans.values()
        if inner.parent_id == outer.span_id
    )
    return len({span.trace_id for span in spans.values()}) == 1 and len(roots) == 1 and is_nested


async def test_one_trace_from_the_request_to_the_sql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    async with traced(monkeypatch, tmp_path, protocol=protocol) as (world, collector):
        await call(world, "customer_by_id", {"id": 5}, "well")
        names = ["POST /mcp", "verify token", "tools/call customer_by_id", "customer_by_id"]
        spans = await collector.trace_with("well", names)
        assert sorted(span.name for span in collector.spans) == sorted(names), "and none of the SDK's beside them"
        assert are_one_trace(spans)
        http, verify, tool, sql = (spans[name] for name in names)
        assert (verify.parent_id, tool.parent_id, sql.parent_id) == (http.span_id, http.span_id, tool.span_id)
        assert (http.kind, tool.kind, sql.kind) == (2, 2, 3)
        assert http.attributes["http.response.status_code"] == 200
        assert tool.attributes["mcp.method.name"] == "tools/call"
        assert tool.attributes["gen_ai.tool.name"] == "customer_by_id"
        assert tool.attributes["mcp.protocol.version"] == "2026-07-28"
        assert sql.attributes["db.system.name"] == "sqlite"
        assert sql.attributes["db.namespace"] == "shop"
        assert "where id = ?" in sql.attributes["db.query.text"]
        assert not any(span.is_error or "error.type" in span.attributes for span in spans.values())
        await call(world, "customer_by_id", {"id": 5}, "again")
        assert "verify token" not in await collector.trace_with("again", ["POST /mcp", "customer_by_id"])
        await collector.until(lambda: "gateway.requests" in collector.metrics)


async def test_the_caller_is_the_parent_and_both_spans_are_linked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with traced(monkeypatch, tmp_path, NONE) as (world, collector):
        await call(world, "customer_by_id", {"id": 5}, "by-meta", meta=CALLER)
        spans = await collector.trace_with("by-meta", ["POST /mcp", "tools/call customer_by_id", "customer_by_id"])
        http, tool, sql = (spans[name] for name in ("POST /mcp", "tools/call customer_by_id", "customer_by_id"))
        assert (tool.trace_id, tool.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
        assert (tool.links, http.links) == ((http.span_id,), (tool.span_id,))
        assert sql.parent_id == tool.span_id
        await world.modern("tools/list", headers={"traceparent": CALLER, "X-Request-ID": "by-header"})
        spans = await collector.trace_with("by-header", ["POST /mcp", "tools/list"])
        assert spans["POST /mcp"].parent_id == "b7ad6b7169203331"
        assert are_one_trace(spans)


async def test_failures_are_kept_though_nothing_is_sampled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    async with traced(monkeypatch, tmp_path, NONE, protocol) as (world, collector):
        await call(world, "customer_by_id", {"id": 5}, "unremarkable")
        await world.send({}, client=None, headers={"traceparent": CALLER, "X-Request-ID": "unremarkable"})
        await call(world, "customer_by_id", {"id": "PLANTED"}, "wrong")
        await call(world, "orders_total", {}, "denied", client="stranger")
        await call(world, "count_slowly", {"n": 3_000_000}, "slow")
        spans = await collector.trace_with("wrong", ["POST /mcp", "tools/call customer_by_id"])
        tool = spans["tools/call customer_by_id"]
        assert tool.attributes["error.type"] == "tool_error"
        assert tool.attributes["gateway.error.code"] == "invalid_arguments"
        assert "customer_by_id" not in spans
        spans = await collector.trace_with("denied", ["POST /mcp", "tools/call"])
        assert spans["tools/call"].attributes["error.type"] == "-32004"
        assert spans["POST /mcp"].attributes["http.response.status_code"] == 403
        spans = await collector.trace_with("slow", ["POST /mcp", "count_slowly"])
        assert spans["count_slowly"].end - spans["count_slowly"].start > 300_000_000
        assert are_one_trace(spans)
    assert not [span for span in collector.spans if span.attributes["correlation.id"] == "unremarkable"]
    assert not any(b"PLANTED" in message for message in collector.raw)


async def test_a_timeout_names_its_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str) -> None:
    short = NONE.replace("required: true, statement_timeout: 20s", "required: true, statement_timeout: 150ms")
    async with traced(monkeypatch, tmp_path, short, protocol) as (world, collector):
        await call(world, "count_slowly", {"n": 1_000_000_000}, "late")
        spans = await collector.trace_with("late", ["POST /mcp", "tools/call count_slowly", "count_slowly"])
        assert are_one_trace(spans)
        tool, sql = spans["tools/call count_slowly"], spans["count_slowly"]
        assert sql.attributes["error.type"] == "statement_timeout"
        assert tool.attributes["error.type"] == "tool_error"
        assert tool.attributes["gateway.error.code"] == "statement_timeout"
        assert tool.is_error
        assert sql.is_error
        assert not spans["POST /mcp"].is_error, "the HTTP exchange went well"


async def test_a_cancelled_call_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str) -> None:
    async with traced(monkeypatch, tmp_path, NONE, protocol) as (world, collector):
        body = envelope("tools/call", {"name": "count_slowly", "arguments": {"n": 1_000_000_000}})
        headers = routing(body) | {"Content-Type": "application/json", "X-Request-ID": "gone"}
        headers |= {"Authorization": f"Bearer {await world.credentials().token()}"}
        with pytest.raises(TimeoutError):
            await world.http.post(
                world.gateway.url, data=json.dumps(body), headers=headers, timeout=aiohttp.ClientTimeout(0.3)
            )
        spans = await collector.trace_with("gone", ["POST /mcp", "tools/call count_slowly", "count_slowly"])
        assert spans["POST /mcp"].attributes["error.type"] == "disconnected"
        assert spans["tools/call count_slowly"].attributes["error.type"] == "cancelled"
        assert spans["count_slowly"].attributes["error.type"] == "cancelled"
        assert are_one_trace(spans)


async def test_a_call_that_its_session_cancels_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with traced(monkeypatch, tmp_path, NONE + "features: {sessions: true}\n") as (world, collector):
        async with Client(world) as client:
            await client.initialize()
            async with client.stream("count_slowly", n=1_000_000_000) as stream:
                identifier = stream.response.headers["X-Request-ID"]
                while "running" not in (await stream.event()).data:
                    pass
                await client.cancel(stream.request_id)
                await stream.rest()
            spans = await collector.trace_with(identifier, ["POST /mcp", "tools/call count_slowly", "count_slowly"])
        assert are_one_trace(spans)
        assert spans["tools/call count_slowly"].attributes["error.type"] == "cancelled"
        assert spans["count_slowly"].attributes["error.type"] == "cancelled"
        assert spans["POST /mcp"].attributes["http.response.status_code"] == 200


async def test_waiting_for_a_connection_and_opening_it_are_spans(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    narrow = ALL.replace(
        "statement_timeout: 20s}", "statement_timeout: 20s, pool: {min: 0, max: 2, max_per_client: 2}}", 1
    )
    async with traced(monkeypatch, tmp_path, narrow) as (world, collector):
        await asyncio.gather(
            *(call(world, "count_slowly", {"n": 300_000}, f"together-{number}") for number in range(3))
        )
        told = [await collector.trace_with(f"together-{number}", ["POST /mcp", "count_slowly"]) for number in range(3)]
        waited = [each for each in told if "wait for a connection" in each]
        assert all(are_one_trace(each) for each in told)
        opened = next(each for each in waited if "connect" in each)
        assert opened["connect"].parent_id == opened["wait for a connection"].span_id
        assert opened["wait for a connection"].parent_id == opened["tools/call count_slowly"].span_id
        assert opened["connect"].kind == 3


@pytest.mark.parametrize("is_deaf", [True, False], ids=["slow", "down"])
async def test_a_collector_that_is_slow_or_down_costs_requests_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str, is_deaf: bool
) -> None:
    """While nothing of theirs is taken every call is answered; the log says so once."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts, and never answers
        port = deaf.getsockname()[1] if is_deaf else free_port()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        async with open_world(tmp_path, ALL.replace("sample: 1.0", "sample: 1.0, max_pending: 5")) as world:
            async with asyncio.timeout(20):
                while not await _metric(world, 'gateway_telemetry_spans_total{result="failed"}'):
                    for number in range(20):
                        assert (await call(world, "customer_by_id", {"id": 5}, f"unheard-{number}")).status == 200
            assert await _metric(world, 'gateway_telemetry_spans_total{result="dropped"}')
            began = time.monotonic()
    assert time.monotonic() - began < 15
    complaints = [record for record in caplog.records if "the collector does not take spans" in record.message]
    assert len(complaints) == 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_each_attempt_of_a_retry_is_a_span(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    caplog.set_level("INFO", "gateway.tools")
    renaming = """
  rename:
    description: Renames a customer.
    source: shop_rw
    scopes: ["orders:write"]
    writes: true
    idempotent: true
    parameters: {id: {type: integer}, name: {type: string}}
    statement: update customers set name = :name where id = :id
"""
    settings = "telemetry: {traces: {sample: 1.0, sql_comment: always}}\n"
    hasty = CONFIGURATION.replace("access: read-write,", "access: read-write, connect_timeout: 300ms,")
    async with traced(monkeypatch, tmp_path, hasty + renaming + settings, protocol) as (world, collector):
        locking = sqlite3.connect(world.database, isolation_level=None)
        locking.execute("begin exclusive")
        calling = asyncio.create_task(call(world, "rename", {"id": 1, "name": "Ada"}, "twice", client="clerk"))
        async with asyncio.timeout(20):
            while not any("trying again" in each.getMessage() for each in caplog.records):  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.02)
        locking.execute("rollback")
        locking.close()
        reply = await calling
        assert reply.result["isError"] is False
        await collector.trace_with("twice", ["POST /mcp"])
        spans = [each for each in collector.spans if each.attributes["correlation.id"] == "twice"]
        attempts = sorted((s for s in spans if s.name == "attempt"), key=lambda s: s.attributes["gateway.attempt"])
        assert len(attempts) >= 2
        assert attempts[0].attributes["error.type"] == "conflict"
        assert not attempts[-1].is_error
        statements = [s for s in spans if s.name == "rename"]
        assert {s.parent_id for s in statements} == {s.span_id for s in attempts}
        assert await _metric(world, 'gateway_retried_calls_total{outcome="recovered"}') == 1


async def _metric(world: World, series: str) -> float:
    async with world.http.get(f"{world.gateway.admin_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(series)), 0.0)
