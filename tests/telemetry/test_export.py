"""The way out: bounded, with room kept for what matters, and silent but for one line a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.config.telemetry import TraceSettings
from gateway.resilience.histogram import Histogram
from gateway.telemetry import collector, export
from gateway.telemetry.export import Complaints, Pace, SpanOutlet, resource
from gateway.telemetry.tracing import Served, Trace, Tracer


class Collector(SpanExporter):
    """Takes spans when it may go; then keeps, refuses or breaks."""

    def __init__(self, result: SpanExportResult | Exception = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.batches: list[Sequence[ReadableSpan]] = []
        self.is_asked, self.may_go = threading.Event(), threading.Event()
        self.may_go.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_asked.set()
        assert self.may_go.wait(20)
        if isinstance(self.result, Exception):
            raise self.result
        self.batches.append(spans)
        return self.result


def served(outcome: str = "ok", *, seconds: float = 0.001, name: str = "c") -> Served:
    trace = Trace(1, 2, None, is_sampled=True)
    return Served(trace, name, "POST", "/mcp", 200, "tools/list", "", outcome, [], trace.started + seconds)


@contextmanager
def outlet(collector: Collector, pace: Pace) -> Iterator[SpanOutlet]:
    opened = SpanOutlet(collector, resource(), pace)
    try:
        yield opened
    finally:
        collector.may_go.set()
        opened.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def counts(opened: SpanOutlet) -> dict[str, float]:
    return {each.labels[0]: float(each.value) for each in opened.read() if not isinstance(each.value, Histogram)}


def test_ordinary_calls_leave_room_for_slow_and_failed_ones() -> None:
    collector = Collector()
    collector.may_go.clear()
    with outlet(collector, Pace(8, 1, 0.01)) as opened:
        tracer = Tracer(TraceSettings(), opened, {})
        tracer.tell(served(), is_failed=False)
        assert collector.is_asked.wait(20)  # and from now on nothing leaves the queue
        for number in range(20):
            tracer.tell(served(name=f"ordinary-{number}"), is_failed=False)
        for kind in ({"outcome": "internal"}, {"seconds": 2.0}):
            for _ in range(20):
                tracer.tell(served(name="remarkable", **kind), is_failed="outcome" in kind)
        assert counts(opened)["dropped"] == 14 + 38
        collector.may_go.set()
        until(lambda: len(collector.batches) == 9)
    told = [span.attributes["correlation.id"] for batch in collector.batches for span in batch if span.attributes]
    assert told.count("remarkable") == 2 * 2
    assert len(told) == 9 * 2


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, RuntimeError("broken")])
def test_whatever_a_collector_does_is_one_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, result: SpanExportResult | Exception
) -> None:
    now = 0.0
    monkeypatch.setattr(export, "time", SimpleNamespace(monotonic=lambda: now))
    complaints = Complaints("spans")
    fault = result if isinstance(result, Exception) else None
    for second in range(0, 180, 10):
        now = float(second)
        complaints.lost(2, fault)
    lines = [record for record in caplog.records if record.name == "gateway.telemetry"]
    assert [vars(record)["lost"] for record in lines] == [2, 12, 12]
    assert all(bool(record.exc_info) is bool(fault) for record in lines)


def test_an_exporter_that_breaks_each_time_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector(RuntimeError("broken"))
    with outlet(collector, Pace(100, 1, 0.01)) as opened:
        for _ in range(10):
            opened.offer(served(), is_ordinary=True)
        until(lambda: counts(opened)["failed"] == 10)
    (line,) = [record for record in caplog.records if record.name == "gateway.telemetry"]
    assert line.levelno == logging.WARNING
    assert line.exc_info


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4317"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, False),
    ],
)
def test_a_collector_is_named_as_opentelemetry_has_it(environment: dict[str, str], expected: bool) -> None:
    assert collector.is_named(environment, "TRACES") is expected


def test_the_environment_goes_first() -> None:
    assert Pace.of(7, {}) == Pace(7)
    given = {"MAX_QUEUE_SIZE": "11", "MAX_EXPORT_BATCH_SIZE": "3", "SCHEDULE_DELAY": "250"}
    assert Pace.of(7, {f"OTEL_BSP_{name}": value for name, value in given.items()}) == Pace(11, 3, 0.25)
    assert Pace.of(7, {f"OTEL_BSP_{name}": "none" for name in given}) == Pace(7)
