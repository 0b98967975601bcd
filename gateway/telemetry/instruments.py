"""Every instrument of the gateway: names, units and labels, once for Prometheus, OTLP and the reference page.

Names follow OpenTelemetry's semantic conventions where there is one (HTTP, MCP,
database client and process metrics). No label ever holds a subject, a client, a
session or text that a caller chose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.resilience.histogram import Histogram


class Kind(StrEnum):
    """What an instrument's numbers mean."""

    COUNTER = "counter"
    """Only ever grows."""
    GAUGE = "gauge"
    """The value now."""
    HISTOGRAM = "histogram"
    """A distribution."""


SYSTEMS: Final = {"postgres": "postgresql", "mysql": "mysql", "oracle": "oracle.db", "sqlite": "sqlite"}
"""OpenTelemetry's names for the engines (semantic conventions for databases, `db.system.name`)."""

_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes"}


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric.

    Attributes:
        name: as OpenTelemetry has it.
        kind: what its numbers mean.
        unit: UCUM, as OpenTelemetry has it.
        meaning: for the reference page and `# HELP`.
        labels: attribute names, as OpenTelemetry has them.
        known_as: Prometheus' name, where the world knows it by another than the derived one.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    known_as: str = ""

    @property
    def prometheus(self) -> str:
        """The name of its family in Prometheus (OpenTelemetry's rule for the translation)."""
        if self.known_as:
            return self.known_as
        derived = self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "")
        return f"{derived}_total" if self.kind is Kind.COUNTER else derived

    @property
    def prometheus_labels(self) -> list[str]:
        """The labels as Prometheus has them."""
        return [label.replace(".", "_") for label in self.labels]


class Reading(NamedTuple):
    """One number, or distribution, of an instrument at one moment.

    Attributes:
        instrument: what was read.
        labels: the values of its labels.
        value: the number.
    """

    instrument: Instrument
    labels: tuple[str, ...]
    value: float | Histogram


def _counter(name: str, unit: str, meaning: str, *labels: str, known_as: str = "") -> Instrument:
    return Instrument(name, Kind.COUNTER, unit, meaning, labels, known_as)


def _gauge(name: str, unit: str, meaning: str, *labels: str, known_as: str = "") -> Instrument:
    return Instrument(name, Kind.GAUGE, unit, meaning, labels, known_as)


def _histogram(name: str, unit: str, meaning: str, *labels: str) -> Instrument:
    return Instrument(name, Kind.HISTOGRAM, unit, meaning, labels)


_METHOD, _TOOL = "mcp.method.name", "gen_ai.tool.name"
_POOL: Final = "db.client.connection.pool.name"

REQUESTS: Final = _counter(
    "gateway.requests",
    "{request}",
    "Requests by method, tool and outcome; `fault` says whose it is: `none`, `caller` or `gateway`.",
    *(_METHOD, _TOOL, "outcome", "fault"),
)
OPERATION_DURATION: Final = _histogram(
    "mcp.server.operation.duration", "s", "Time from a request's head to its answer.", _METHOD, _TOOL
)
HTTP_DURATION: Final = _histogram(
    "http.server.request.duration",
    "s",
    "The same, by what HTTP says of it.",
    *("http.request.method", "http.response.status_code"),
)
DATABASE_DURATION: Final = _histogram(
    "db.client.operation.duration",
    "s",
    "Time that a statement took on a connection, failed ones included; the summary is the tool.",
    *("db.system.name", "db.namespace", "db.query.summary"),
)
DATABASE_ERRORS: Final = _counter(
    "gateway.database.errors", "{error}", "Statements that failed, by code.", "source", "code"
)
POOL_COUNT: Final = _gauge(
    "db.client.connection.count",
    "{connection}",
    "Connections by state: `idle`, `used`, `opening`.",
    *(_POOL, "db.client.connection.state"),
)
POOL_MAX: Final = _gauge("db.client.connection.max", "{connection}", "Most connections allowed.", _POOL)
POOL_MIN: Final = _gauge("db.client.connection.idle.min", "{connection}", "Connections that are kept open.", _POOL)
POOL_PENDING: Final = _gauge(
    "db.client.connection.pending_requests", "{request}", "Callers that wait for a connection.", _POOL
)
POOL_TIMEOUTS: Final = _counter(
    "db.client.connection.timeouts", "{timeout}", "Callers that waited for a connection in vain.", _POOL
)
POOL_WAIT: Final = _histogram(
    "db.client.connection.wait_time", "s", "Time to obtain a connection; those at hand count as 0.", _POOL
)
POOL_CREATE: Final = _histogram(
    "db.client.connection.create_time", "s", "Time to open a connection, TLS and login included.", _POOL
)
POOL_USE: Final = _histogram("db.client.connection.use_time", "s", "Time that a connection was lent.", _POOL)
SOURCE_UP: Final = _gauge("gateway.source.up", "1", "1 while the database can be reached, else 0.", "source")
BREAKER: Final = _gauge(
    "gateway.source.breaker",
    "1",
    "1 for the state that the source's breaker is in: `closed`, `half-open`, `open`.",
    *("source", "state"),
)
RETRIES: Final = _counter(
    "gateway.retries", "{attempt}", "Attempts that failed and were made again, by the code of the failure.", "code"
)
RETRIED: Final = _counter(
    "gateway.retried_calls",
    "{call}",
    "Calls that needed more than one attempt, by how they ended: `recovered`, `failed`.",
    "outcome",
)
LOOKUPS: Final = _counter(
    "gateway.token.lookups", "{lookup}", "Looks into the cache of verdicts: `hit`, `shared_hit`, `miss`.", "result"
)
VERIFICATIONS: Final = _counter(
    "gateway.token.verifications",
    "{token}",
    "Verdicts on tokens, remembered good ones aside: `ok`, a refusal's reason, or `unavailable`: nobody can judge.",
    "outcome",
)
INTROSPECTIONS: Final = _counter("gateway.token.introspections", "{request}", "Questions to providers about tokens.")
KEY_FETCHES: Final = _counter(
    "gateway.jwks.fetches", "{request}", "Fetches of an issuer's keys: `ok`, `failed`.", "issuer", "result"
)
KEYS_READY: Final = _gauge("gateway.issuer.ready", "1", "1 while an issuer's keys are fresh, else 0.", "issuer")
RATE_LIMITED: Final = _counter(
    "gateway.rate_limit.rejections",
    "{request}",
    "Requests refused by a limit: `client`, `address`, `tool`, `concurrency`.",
    "limit",
)
RATE_FALLBACKS: Final = _counter(
    "gateway.rate_limit.fallbacks", "{request}", "Requests counted by this process alone, since Redis did not answer."
)
CLIENTS: Final = _gauge("gateway.rate_limit.entries", "{entry}", "Clients, tools and addresses that are remembered.")
REDIS_UP: Final = _gauge("gateway.redis.up", "1", "1 while Redis answers; absent where none is configured.")
LISTENERS: Final = _gauge("gateway.listeners", "{stream}", "Streams that wait for word of changed tools.")
CERTIFICATE: Final = _gauge(
    "gateway.certificate.expiry",
    "s",
    "Seconds until a certificate expires: of the `listener`, `client` and `ca` files, and those last shown by a "
    "`server`, an `issuer` and the endpoint of a source's `token`.",
    *("role", "name"),
)
CONFIGURATION: Final = _gauge(
    "gateway.configuration.info", "1", "Always 1; the label is the hash of the settings, secrets aside.", "hash"
)
TOOLS: Final = _gauge("gateway.configuration.tools", "{tool}", "Tools in the configuration.")
RELOADS: Final = _counter(
    "gateway.configuration.reloads", "{reload}", "Configurations loaded after the first: `ok`, `failed`.", "result"
)
AUDIT: Final = _counter(
    "gateway.audit.records",
    "{record}",
    "Audit records by sink: `written`, `failed` for attempts that wrote none, `lost` for want of room in its queue.",
    *("sink", "result"),
)
AUDIT_UP: Final = _gauge("gateway.audit.sink.up", "1", "1 while the sink takes records, else 0.", "sink")
AUDIT_PENDING: Final = _gauge("gateway.audit.sink.pending", "{record}", "Records that wait for the sink.", "sink")
AUDIT_REFUSED: Final = _counter(
    "gateway.audit.refused_calls", "{call}", "Calls refused, or answers withheld, since no record could be written."
)
SPANS: Final = _counter(
    "gateway.telemetry.spans", "{span}", "Spans: `exported`, `failed`, and `dropped` for want of room.", "result"
)
LOG_MISSED: Final = _counter(
    "gateway.log.missed", "{line}", "Log lines that were left out, since whoever reads the log was too slow."
)
READY: Final = _gauge("gateway.ready", "1", "1 while calls can be served, else 0.")
BUILD: Final = _gauge("gateway.build.info", "1", "Always 1; the labels say what runs.", "version", "python")
LOOP_LAG: Final = _histogram("gateway.event_loop.lag", "s", "How late the event loop was, measured each 250 ms.")
CPU: Final = _counter("process.cpu.time", "s", "CPU time, user and system.", known_as="process_cpu_seconds_total")
MEMORY: Final = _gauge("process.memory.usage", "By", "Resident memory.", known_as="process_resident_memory_bytes")
FILES: Final = _gauge(
    "process.open_file_descriptor.count", "{file}", "Open file descriptors.", known_as="process_open_fds"
)
STARTED: Final = _gauge(
    "process.start_time", "s", "When the process started, in Unix time.", known_as="process_start_time_seconds"
)

INSTRUMENTS: Final[tuple[Instrument, ...]] = tuple(
    sorted((each for each in dict(globals()).values() if isinstance(each, Instrument)), key=lambda each: each.name)
)
"""All of them, by name."""


def by_instrument(readings: Iterable[Reading]) -> dict[Instrument, list[Reading]]:
    """The readings of each instrument, in the order of names; instruments without any are left out."""
    grouped: dict[Instrument, list[Reading]] = {}
    for reading in sorted(readings, key=lambda each: each.instrument.name):
        grouped.setdefault(reading.instrument, []).append(reading)
    return grouped
