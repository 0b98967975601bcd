"""OpenTelemetry logs: each record is the body of a log record, word for word, so that it can be verified anywhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from gateway import __version__
from gateway.telemetry.audit.thread import WriterThread
from gateway.telemetry.collector import speaks_http
from gateway.telemetry.export import hush, resource

_SCOPE: Final = InstrumentationScope("gateway.audit", __version__)
_COPIED: Final = ("correlation_id", "subject", "client", "tool", "outcome")


class NotDelivered(Exception):
    """The collector did not take a batch."""


class Exporter(Protocol):
    """What is used of OpenTelemetry's exporters."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send, and wait for the collector's answer."""

    def shutdown(self) -> None:
        """Close the connection."""


class OtlpSink:
    """Sends batches to a collector and waits for its word: no queue of its own stands between.

    Args:
        exporter: how; by default what the variables OTEL_EXPORTER_OTLP_* name.
    """

    name = "otlp"

    def __init__(self, exporter: Exporter | None = None) -> None:
        self._exporter = exporter or _exporter(os.environ)
        self._resource = resource()
        self._thread = WriterThread("audit-otlp")

    async def write(self, lines: Sequence[bytes]) -> None:
        """Send; a batch that the collector does not take is not written."""
        await self._thread.run(partial(self._export, lines))

    async def tick(self) -> None:
        """There is nothing to do."""

    async def close(self) -> None:
        """Close the connection, after what is being sent."""
        self._thread.submit(self._exporter.shutdown)
        self._thread.stop()

    def _export(self, lines: Sequence[bytes]) -> None:
        now = time.time_ns()
        if self._exporter.export([self._record(line, now) for line in lines]) is not LogRecordExportResult.SUCCESS:
            raise NotDelivered("the collector did not take the records")

    def _record(self, line: bytes, now: int) -> ReadableLogRecord:
        text = line.rstrip(b"\n").decode()
        fields: Mapping[str, Any] = json.loads(text)
        attributes = {f"audit.{name}": str(fields[name]) for name in _COPIED if name in fields}
        record = LogRecord(
            timestamp=now,
            observed_timestamp=now,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=text,
            attributes=attributes,
            event_name=f"audit.{fields['event']}",
        )
        return ReadableLogRecord(record, self._resource, _SCOPE)


def _exporter(environment: Mapping[str, str]) -> Exporter:
    # Imported here, because the gRPC stack is heavy and most processes need only one of the two.
    hush()
    if speaks_http(environment, "LOGS"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter

    return GrpcExporter()
