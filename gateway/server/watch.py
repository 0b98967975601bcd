"""What is told of a request that has ended: its numbers, its log line, its trace. One place for all three."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.config.telemetry import TelemetrySettings
from gateway.server.metering import House
from gateway.server.record import Record
from gateway.server.snapshot import Snapshot
from gateway.telemetry.collector import is_named
from gateway.telemetry.instruments import SYSTEMS
from gateway.telemetry.metrics import Meters, Metrics
from gateway.telemetry.runtime import LoopLag, read_process
from gateway.telemetry.tracing import Outlet, Served, Trace, Tracer


class Watch:
    """Watches requests.

    Args:
        settings: what is sampled.
        metrics: where they are counted.
        tracer: decides which are traced.
        reloads: where reloads of the configuration are counted: "ok", "failed".
    """

    def __init__(self, settings: TelemetrySettings, metrics: Metrics, tracer: Tracer, reloads: Counter[str]) -> None:
        self._slow = settings.traces.slow
        self._log_share = settings.logs.sample
        self._tracer = tracer
        self.metrics = metrics
        self.reloads = reloads

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """The trace of a request that has just come."""
        return self._tracer.begin(headers)

    def end(self, record: Record, trace: Trace, correlation_id: str, path: str) -> None:
        """Count, log and trace a request that has ended."""
        ended = time.perf_counter()
        seconds = ended - record.started
        _count(record, seconds, self.metrics.meters)
        is_remarkable = record.outcome != "ok" or seconds > self._slow
        if is_remarkable or self._log_share >= 1.0 or random.random() < self._log_share:  # noqa: S311 - no secret
            record.write()
        is_failed = _is_failed(record)
        if self._tracer.wants(trace, seconds, is_failed=is_failed, is_known=bool(record.client)):
            served = Served(
                trace,
                correlation_id,
                record.http_method,
                path,
                record.status,
                record.method,
                record.tool,
                record.outcome,
                record.marks,
                ended,
            )
            self._tracer.tell(served, is_failed=is_failed)


def _is_failed(record: Record) -> bool:
    """Whether a verified caller's call failed; what the door or a limit turns away could fill any buffer."""
    return record.status >= 500 or (record.method == "tools/call" and record.outcome != "ok" and not record.limit)


def _count(record: Record, seconds: float, meters: Meters) -> None:
    """Count a request and the stages of its call."""
    meters.request(record.http_method, record.status, record.method, record.tool, record.outcome, seconds)
    if record.limit:
        meters.limited(record.limit)
    attempts: list[str] = []
    for stage, started, ended, code, more in record.marks:
        if stage == "statement":
            source, dialect, statement = more
            meters.statement(SYSTEMS.get(dialect, "other_sql"), source, statement.name, code, ended - started)
        elif stage == "attempt":
            attempts.append(code)
    if attempts:
        meters.retry(attempts)


@asynccontextmanager
async def open_watch(settings: TelemetrySettings, current: Callable[[], Snapshot]) -> AsyncIterator[Watch]:
    """Metrics, traces and the event loop's lag while the block runs; what waits is sent at its end.

    Args:
        settings: `telemetry` of the configuration.
        current: gives the snapshot in force.
    """
    metrics, lag = Metrics(), LoopLag()
    house = House(current)
    for reader in (house.read, lag.read, read_process):
        metrics.add(reader)
    async with AsyncExitStack() as stack:
        stack.enter_context(lag.measured())
        outlet = await _export(settings, metrics, stack)
        yield Watch(settings, metrics, Tracer(settings.traces, outlet), house.reloads)


async def _export(settings: TelemetrySettings, metrics: Metrics, stack: AsyncExitStack) -> Outlet | None:
    """Send to the collectors that the environment names; the way out for traces, if there is one."""
    # Imported here, because OpenTelemetry's SDK is heavy and most processes have no collector.
    outlet = None
    if is_named(os.environ, "TRACES"):
        from gateway.telemetry.export import open_spans

        outlet = await stack.enter_async_context(open_spans(settings.traces.max_pending))
        metrics.add(outlet.read)
    if is_named(os.environ, "METRICS"):
        from gateway.telemetry.push import open_push

        await stack.enter_async_context(open_push(metrics, settings.metrics.export_interval))
    return outlet
