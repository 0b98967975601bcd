"""What the gateway tells of itself: traces, logs, metrics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Settings, Timeout
from gateway.config.units import Duration

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]


class TraceSettings(Settings):
    """Which calls are traced, and how far; `OTEL_EXPORTER_OTLP_ENDPOINT` says where traces go."""

    sample: Ratio = 0.1
    """Share of the traces that begin here; a caller's decision goes first. Slow and failed calls are kept anyway."""
    slow: Duration = 1.0
    """Calls that take longer are kept, whatever `sample` says."""
    max_pending: Annotated[int, Field(ge=1, le=100_000)] = 2048
    """Most traces that wait for the collector; further ones are dropped, and counted."""
    sql_comment: Literal["off", "static", "sampled", "always"] = "off"
    """Comment at the end of each statement: the tool (`static`), and the trace of sampled calls, or of every call."""


class LogSettings(Settings):
    """What is logged, and how."""

    format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines to write."""
    sample: Ratio = 1.0
    """Share of the request lines of calls that went well; those of failed and slow calls are always written."""


class MetricSettings(Settings):
    """Metrics are at `/metrics` of the admin listener; by OTLP they go where the traces go."""

    export_interval: Timeout = 60.0
    """Time between two exports by OTLP."""


class TelemetrySettings(Settings):
    """What the gateway tells of itself."""

    traces: TraceSettings = TraceSettings()
    """Traces."""
    logs: LogSettings = LogSettings()
    """Logs."""
    metrics: MetricSettings = MetricSettings()
    """Metrics."""
