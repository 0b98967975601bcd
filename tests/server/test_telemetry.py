"""One correlation id: on the response, in every log line, on every span."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.telemetry import logs, tracing
from tests.world import open_world

_exporter = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    """OpenTelemetry allows one provider for each process; this module's tests read it."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    tracing.record_with(provider)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


async def test_one_id_from_the_request_to_the_sql(tmp_path: Path, log: io.StringIO) -> None:
    async with open_world(tmp_path) as world:
        _exporter.clear()
        caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        reply = await world.modern(
            "tools/call",
            {"name": "customer_by_id", "arguments": {"id": 5}},
            meta={"traceparent": caller},
            headers={"X-Request-ID": "trace-me"},
        )
        assert reply.headers["X-Request-ID"] == "trace-me"
    spans: dict[str, ReadableSpan] = {span.name: span for span in _exporter.get_finished_spans()}
    assert set(spans) == {"POST /mcp", "tools/call customer_by_id", "customer_by_id"}
    for span in spans.values():
        assert (span.attributes or {})["correlation.id"] == "trace-me"
    tool, http, sql = spans["tools/call customer_by_id"], spans["POST /mcp"], spans["customer_by_id"]
    assert tool.parent is not None
    assert f"{tool.parent.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert tool.links[0].context.span_id == _span_id(http)
    assert sql.parent is not None
    assert sql.parent.span_id == _span_id(tool)
    attributes = sql.attributes or {}
    assert attributes["db.system.name"] == "sqlite"
    assert "where id = ?" in str(attributes["db.query.text"])
    line = next(line for line in _lines(log) if line["event"] == "request" and line.get("tool"))
    assert line["correlation_id"] == "trace-me"
    assert line["mcp_method"] == "tools/call"
    assert (line["tool"], line["outcome"], line["rows"], line["client"]) == ("customer_by_id", "ok", 1, "reader")
    assert line["duration_ms"] > 0


async def test_failures_are_one_line_with_a_reason_and_no_secret(tmp_path: Path, log: io.StringIO) -> None:
    async with open_world(tmp_path) as world:
        token = await world.credentials().token()
        await world.send({}, client=None)
        await world.send({}, client=None, headers={"Authorization": "Bearer x.y.z"})
        await world.call("customer_by_id", {"id": "PLANTED-VALUE"})
        await world.send(None, raw=b"{")
        await world.modern("tools/list", headers={"X-Request-ID": 'forged"\\n{"level":"error"}'})
        await world.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    requests = [line for line in _lines(log) if line["event"] == "request"]
    outcomes = [line["outcome"] for line in requests]
    assert outcomes[0] == "unauthenticated:no_token"
    assert outcomes[1].startswith("unauthenticated:")
    assert outcomes[2:] == ["invalid_arguments", "refused", "ok", "ok"]
    assert [line["status"] for line in requests] == [401, 401, 200, 400, 200, 202]
    text = log.getvalue()
    assert token not in text
    assert "PLANTED-VALUE" not in text
    assert "forged" not in text


def test_an_exception_is_one_line(log: io.StringIO) -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        logging.getLogger("gateway.test").exception("it broke", extra={"long": "x" * 5000})
    lines = _lines(log)
    assert len(lines) == 1
    assert "line two" in lines[0]["exception"]
    assert len(lines[0]["long"]) < 2100
