"""Metrics by OTLP: the numbers that `/metrics` shows, sent from time to time.

The numbers are read on the event loop's thread, where they change; they are
translated into the SDK's data model and sent on another.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from gateway import __version__
from gateway.resilience.histogram import Histogram
from gateway.telemetry.collector import speaks_http
from gateway.telemetry.export import Complaints, hush, resource
from gateway.telemetry.instruments import Instrument, Kind, Reading
from gateway.telemetry.metrics import Metrics

_SCOPE: Final = InstrumentationScope("gateway", __version__)
_CUMULATIVE: Final = sdk.AggregationTemporality.CUMULATIVE
_LAST_MS: Final = 2000.0


def metrics_data(
    readings: Mapping[Instrument, Sequence[Reading]], who: Resource, started: int, now: int
) -> sdk.MetricsData:
    """The readings as the SDK has them.

    Args:
        readings: by instrument.
        who: is speaking.
        started: Unix time in nanoseconds at which counting began.
        now: Unix time in nanoseconds.
    """
    metrics = [
        sdk.Metric(instrument.name, instrument.meaning, instrument.unit, _data(instrument, each, started, now))
        for instrument, each in readings.items()
    ]
    return sdk.MetricsData([sdk.ResourceMetrics(who, [sdk.ScopeMetrics(_SCOPE, metrics, "")], "")])


def _data(instrument: Instrument, readings: Sequence[Reading], started: int, now: int) -> Any:
    labelled = [(dict(zip(instrument.labels, each.labels, strict=True)), each.value) for each in readings]
    if instrument.kind is Kind.HISTOGRAM:
        points = [_point(labels, each, started, now) for labels, each in labelled if isinstance(each, Histogram)]
        return sdk.Histogram(points, _CUMULATIVE)
    numbers = [
        sdk.NumberDataPoint(labels, started, now, each) for labels, each in labelled if not isinstance(each, Histogram)
    ]
    if instrument.kind is Kind.COUNTER:
        return sdk.Sum(numbers, _CUMULATIVE, is_monotonic=True)
    return sdk.Gauge(numbers)


def _point(labels: Mapping[str, str], histogram: Histogram, started: int, now: int) -> sdk.HistogramDataPoint:
    counts = list(histogram.counts)
    least: Any = None  # least and most are optional in OTLP, and not kept
    return sdk.HistogramDataPoint(
        labels, started, now, sum(counts), histogram.total, counts, histogram.bounds, least, least
    )


def _exporter(environment: Mapping[str, str]) -> sdk.MetricExporter:
    # Imported here, as for spans.
    if speaks_http(environment, "METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

    return GrpcExporter()


class MetricPush:
    """Reads and sends, again and again.

    Args:
        metrics: what is sent.
        exporter: sends; may block.
        interval: seconds.
    """

    def __init__(self, metrics: Metrics, exporter: sdk.MetricExporter, interval: float) -> None:
        self._metrics = metrics
        self._exporter = exporter
        self._interval = interval
        self._who = resource()
        self._started = time.time_ns()
        self._complaints = Complaints("metrics")

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await asyncio.sleep(self._interval)
            await self.send()

    async def send(self) -> None:
        """Send once; a failure is reported, and the next time brings the same numbers and more."""
        readings = self._metrics.read()
        try:
            is_taken = await asyncio.to_thread(self._send, readings)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next time may go
            self._complaints.lost(1, error)
            return
        if not is_taken:
            self._complaints.lost(1)

    def _send(self, readings: Mapping[Instrument, Sequence[Reading]]) -> bool:
        data = metrics_data(readings, self._who, self._started, time.time_ns())
        return self._exporter.export(data) is sdk.MetricExportResult.SUCCESS

    async def close(self) -> None:
        """Send a last time, for a little while; then stop."""
        last = asyncio.create_task(self.send())
        await asyncio.wait([last], timeout=_LAST_MS / 1000)
        await asyncio.to_thread(self._exporter.shutdown, _LAST_MS)
        await asyncio.wait([last], timeout=_LAST_MS / 1000)


@asynccontextmanager
async def open_push(
    metrics: Metrics, interval: float, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[None]:
    """Send metrics while the block runs.

    Args:
        metrics: what is sent.
        interval: seconds; `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds) goes first.
        environment: the `OTEL_*` variables.
    """
    hush()
    given = environment.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    push = MetricPush(metrics, _exporter(environment), int(given) / 1000 if given.isdigit() else interval)
    task = asyncio.create_task(push.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await push.close()
