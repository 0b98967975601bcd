"""What telemetry costs a call: timestamps, numbers, the trace's ids, and the spans of every tenth."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.config.telemetry import TelemetrySettings
from gateway.context import Call, Principal
from gateway.database.engine import Statement
from gateway.server.record import Record
from gateway.server.watch import Watch
from gateway.telemetry.export import Pace, SpanOutlet, resource
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer, current
from tests.tally import Tally

ROUNDS = 3000
STATEMENT = Statement("customer_by_id", "select id, name from customers where id = ?", ("id",), ("integer",))
CALLER = Principal("https://idp.example.com", "ada", "agent", frozenset())
MOST = 30.0


class _Encoder(SpanExporter):
    """Does what the real one does but for the network."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def _bare() -> None:
    record = Record("POST", "192.0.2.1", method="tools/call", tool="customer_by_id", status=200)
    Call("c", CALLER, 0.0, marks=record.marks)


def _watched(watch: Watch, headers: dict[str, str]) -> None:
    trace = watch.begin(headers)
    record = Record("POST", "192.0.2.1", method="tools/call", tool="customer_by_id", status=200)
    call = Call("c", CALLER, 0.0, marks=record.marks)
    current().enter({})
    started = time.perf_counter()
    call.mark("statement", started, "", ("shop", "sqlite", STATEMENT))
    call.mark("tool", started, "", "2026-07-28")
    watch.end(record, trace, "c", "/mcp")


def _microseconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - began) / ROUNDS * 1e6


def test_metrics_and_a_tenth_of_the_traces_cost_little(tally: Tally) -> None:
    settings = TelemetrySettings.model_validate({"logs": {"sample": 0.0}})
    outlet = SpanOutlet(_Encoder(), resource(), Pace(100_000))
    watch = Watch(settings, Metrics(), Tracer(settings.traces, outlet, {}), Counter())
    costs = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(ROUNDS):
            _watched(watch, {})
        while outlet._pending:  # the exporter's thread counts as well
            time.sleep(0.001)
        costs.append((time.process_time() - began) / ROUNDS * 1e6)
    outlet.close()
    cost = min(costs) - _microseconds(_bare)
    tally(f"{cost:.1f} us of CPU for a call, spans of a tenth of them included")
    exported = next(iter(outlet.read())).value
    assert isinstance(exported, int)
    assert 3 * ROUNDS * 0.05 < exported / 3 < 3 * ROUNDS * 0.2
    assert cost < MOST
