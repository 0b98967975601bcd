"""The way out by OTLP: a thread of its own, bounded, silent while nobody listens.

Whether a collector is there, slow or gone makes no difference to a request: it
leaves a reference in a queue of limited length. What cannot be delivered is
dropped, counted, and reported once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway import __version__
from gateway.telemetry import instruments as known
from gateway.telemetry.collector import speaks_http
from gateway.telemetry.instruments import Reading
from gateway.telemetry.spans import spans_of
from gateway.telemetry.tracing import Served

_log: Final = logging.getLogger("gateway.telemetry")
_BATCH: Final = 64
_PERIOD: Final = 1.0
_CLOSE: Final = 5.0
REPORT_EVERY: Final = 60.0
"""Seconds between two lines on a collector that does not listen."""


class Complaints:
    """Says that something fails, once a minute and not for each thing that is lost.

    Args:
        what: what is lost.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lost = 0
        self._next = float("-inf")

    def lost(self, number: int, fault: BaseException | None = None) -> None:
        """So many more are lost.

        Args:
            number: how many.
            fault: what was raised, where that is no answer of the collector's.
        """
        self._lost += number
        now = time.monotonic()
        if now >= self._next:
            _log.warning("the collector does not take %s", self._what, extra={"lost": self._lost}, exc_info=fault)
            self._lost, self._next = 0, now + REPORT_EVERY


@dataclass(frozen=True, slots=True)
class Pace:
    """How spans go out.

    Attributes:
        most: requests that may wait; `OTEL_BSP_MAX_QUEUE_SIZE` goes first.
        batch: requests whose spans are sent together; `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` goes first.
        period: seconds after which fewer are sent; `OTEL_BSP_SCHEDULE_DELAY` (milliseconds) goes first.
    """

    most: int
    batch: int = _BATCH
    period: float = _PERIOD

    @classmethod
    def of(cls, most: int, environment: Mapping[str, str]) -> Self:
        """The configured pace, where the environment says nothing else (OpenTelemetry, batch span processor)."""
        names = ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY")
        given = [_positive(environment.get(f"OTEL_BSP_{name}", "")) for name in names]
        return cls(given[0] or most, given[1] or _BATCH, given[2] / 1000 or _PERIOD)


def _positive(text: str) -> int:
    """A whole number above 0; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() else 0


class SpanOutlet:
    """Makes spans of ended requests, and sends them.

    Args:
        exporter: sends a batch; may block.
        resource: who is speaking.
        pace: how many may wait, and when they are sent.
    """

    def __init__(self, exporter: SpanExporter, resource: Resource, pace: Pace) -> None:
        self._exporter = exporter
        self._resource = resource
        self._pace = pace
        # The last quarter is for what is slow or failed: ordinary calls are many, and one is like the other.
        self._most_ordinary = pace.most - pace.most // 4
        self._pending: deque[Served] = deque()
        self._counts: Counter[str] = Counter()
        self._complaints = Complaints("spans")
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def offer(self, served: Served, *, is_ordinary: bool) -> None:
        """See `gateway.telemetry.tracing.Outlet`."""
        waiting = len(self._pending)
        if waiting >= (self._most_ordinary if is_ordinary else self._pace.most):
            self._counts["dropped"] += 1
            return
        self._pending.append(served)
        if waiting == self._pace.batch:
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Requests whose spans are not made yet."""
        return len(self._pending)

    def read(self) -> Iterator[Reading]:
        """What became of spans; of dropped requests, each counts once."""
        for result in ("exported", "failed", "dropped"):
            yield Reading(known.SPANS, (result,), self._counts[result])

    def close(self) -> None:
        """Send what waits, for a few seconds at most; then stop."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(_CLOSE)
        self._exporter.shutdown()
        self._thread.join(1.0)

    def _work(self) -> None:
        dropped = 0
        while not self._is_closing:
            self._wake.wait(self._pace.period)
            self._wake.clear()
            self._drain()
            if (now := self._counts["dropped"]) > dropped:
                self._complaints.lost(now - dropped)
                dropped = now

    def _drain(self) -> None:
        """Send everything that waits, in batches."""
        until = time.monotonic() + _CLOSE
        while self._pending and not (self._is_closing and time.monotonic() > until):
            batch = [self._pending.popleft() for _ in range(min(self._pace.batch, len(self._pending)))]
            try:
                spans = [span for served in batch for span in spans_of(served, self._resource)]
                is_taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - whatever it was, the next batch may go
                self._counts["failed"] += len(batch)
                self._complaints.lost(len(batch), error)
                continue
            self._counts["exported" if is_taken else "failed"] += len(spans)
            if not is_taken:
                self._complaints.lost(len(spans))


def resource() -> Resource:
    """Who is speaking; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go first."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "mcp-database-gateway"
    return Resource.create({"service.name": named, "service.version": __version__})


def hush() -> None:
    """Keep the exporters' own lines out of the log, which come for each attempt: whoever uses them speaks."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk", "opentelemetry.proto", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _span_exporter(environment: Mapping[str, str]) -> SpanExporter:
    # Imported here, because the gRPC stack is heavy and most processes need only one of the two.
    if speaks_http(environment, "TRACES"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter()


@asynccontextmanager
async def open_spans(most: int, environment: Mapping[str, str] = os.environ) -> AsyncIterator[SpanOutlet]:
    """The way out for spans while the block runs.

    Args:
        most: requests that may wait for the collector.
        environment: the `OTEL_*` variables.
    """
    hush()
    outlet = SpanOutlet(_span_exporter(environment), resource(), Pace.of(most, environment))
    try:
        yield outlet
    finally:
        await asyncio.to_thread(outlet.close)
