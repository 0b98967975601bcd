"""Metrics: plain numbers, counted where things happen and read when somebody asks.

There is one set of numbers and two ways out: `/metrics` for Prometheus, and
OTLP (`gateway.telemetry.push`). Nothing is locked: numbers are changed and read
by the event loop's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from gateway.errors import Code
from gateway.resilience.histogram import Histogram
from gateway.telemetry import instruments as known
from gateway.telemetry.instruments import Instrument, Kind, Reading, by_instrument
from gateway.telemetry.methods import OTHER

Reader = Callable[[], Iterable[Reading]]
"""Reads numbers that are kept elsewhere."""

MAX_SERIES: Final = 2000
"""Most combinations of method and tool that are told apart; live reloads may bring new tools for ever."""

_HTTP_METHODS: Final = frozenset({"GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH"})
_LIMITS: Final = ("client", "address", "tool", "concurrency")
_FINE: Final = frozenset({"ok"})
_GATEWAYS_OWN: Final = frozenset(
    {
        *(Code.POOL_EXHAUSTED, Code.POOL_TIMEOUT, Code.CONNECT_TIMEOUT, Code.STATEMENT_TIMEOUT),
        *(Code.SOURCE_UNAVAILABLE, Code.CONNECTION_LOST, Code.LOGIN_FAILED, Code.STATEMENT_INVALID),
        *(Code.UNREPRESENTABLE, Code.OUTCOME_UNKNOWN, Code.INTERNAL, Code.READ_ONLY, Code.AUDIT_UNAVAILABLE),
        *("-32603", "-32007", "-32008", "unavailable"),
    }
)
"""Outcomes that are the gateway's or a database's doing; what callers can mend is theirs."""


def fault(outcome: str, status: int = 200) -> str:
    """Whose fault an outcome is: "none", "caller" or "gateway"."""
    if outcome in _FINE:
        return "none"
    return "gateway" if outcome in _GATEWAYS_OWN or status >= 500 else "caller"


class _Series(NamedTuple):
    """What one kind of request is counted in."""

    durations: Histogram
    http: Histogram | None
    outcome: tuple[str, str, str, str]


class Meters:
    """What is counted on the way of requests."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str, str, str], _Series] = {}
        self._outcomes: Counter[tuple[str, str, str, str]] = Counter()
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._http: dict[tuple[str, int], Histogram] = {}
        self._statements: dict[tuple[str, str, str], Histogram] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self._retries: Counter[str] = Counter()
        self._retried: Counter[str] = Counter()
        self._limited: Counter[str] = Counter()

    def request(self, http_method: str, status: int, method: str, tool: str, outcome: str, seconds: float) -> None:
        """Count one request that has ended.

        Args:
            http_method: as it came; "" where there is no HTTP.
            status: the HTTP status; 0 when the client left before there was one.
            method: the JSON-RPC method, see `gateway.telemetry.methods.known_method`.
            tool: a tool that exists, or "".
            outcome: "ok", a tool error's code, a JSON-RPC code, or a reason; what follows a colon is left out.
            seconds: how long it took.
        """
        asked = (http_method, status, method, tool, outcome)
        series = self._known.get(asked) or self._series(*asked)
        series.durations.add(seconds)
        if series.http is not None:
            series.http.add(seconds)
        self._outcomes[series.outcome] += 1

    def _series(self, http_method: str, status: int, method: str, tool: str, outcome: str) -> _Series:
        """What requests of one kind are counted in; remembered, unless a caller made the words up."""
        asked = (http_method, status, method, tool, outcome)
        is_usual = not http_method or http_method in _HTTP_METHODS
        outcome = outcome.partition(":")[0]
        key = (method, tool)
        if key not in self._durations and len(self._durations) >= MAX_SERIES:
            key = (method, OTHER)
        durations = self._durations.setdefault(key, Histogram())
        http = None
        if http_method:
            http = self._http.setdefault((http_method if is_usual else OTHER, status), Histogram())
        series = _Series(durations, http, (*key, outcome, fault(outcome, status)))
        if is_usual and len(self._known) < MAX_SERIES:
            self._known[asked] = series
        return series

    def statement(self, system: str, source: str, tool: str, code: str, seconds: float) -> None:
        """Count one statement that has ended; `code` is "" when it went well."""
        durations = self._statements.get((system, source, tool))
        if durations is None:
            if len(self._statements) >= MAX_SERIES:
                tool = OTHER
            durations = self._statements.setdefault((system, source, tool), Histogram())
        durations.add(seconds)
        if code:
            self._errors[source, code] += 1

    def limited(self, limit: str) -> None:
        """Count one request that a limit refused."""
        self._limited[limit] += 1

    def retry(self, codes: Sequence[str]) -> None:
        """Count one call that needed more than one attempt.

        Args:
            codes: how each ended, "" when well.
        """
        self._retries.update(codes[:-1])
        self._retried["failed" if codes[-1] else "recovered"] += 1

    def read(self) -> Iterator[Reading]:
        """The numbers now."""
        for requests, number in self._outcomes.items():
            yield Reading(known.REQUESTS, requests, number)
        for (method, tool), durations in self._durations.items():
            yield Reading(known.OPERATION_DURATION, (method, tool), durations)
        for (http_method, status), durations in self._http.items():
            yield Reading(known.HTTP_DURATION, (http_method, str(status)), durations)
        for labels, durations in self._statements.items():
            yield Reading(known.DATABASE_DURATION, labels, durations)
        for errors, number in self._errors.items():
            yield Reading(known.DATABASE_ERRORS, errors, number)
        for code, number in self._retries.items():
            yield Reading(known.RETRIES, (code,), number)
        for outcome in ("recovered", "failed"):
            yield Reading(known.RETRIED, (outcome,), self._retried[outcome])
        for limit in _LIMITS:
            yield Reading(known.RATE_LIMITED, (limit,), self._limited[limit])


class Metrics:
    """All readers of one gateway, and what they read as text for Prometheus."""

    def __init__(self) -> None:
        self.meters = Meters()
        self._readers: list[Reader] = [self.meters.read]

    def add(self, reader: Reader) -> None:
        """Read these, too."""
        self._readers.append(reader)

    def read(self) -> dict[Instrument, list[Reading]]:
        """Every number now, by instrument."""
        return by_instrument(reading for reader in self._readers for reading in reader())


class _Page:
    """Readings as prometheus-client asks for them."""

    def __init__(self, readings: Mapping[Instrument, Sequence[Reading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        for instrument, readings in self._readings.items():
            yield _family(instrument, readings)


def exposition(readings: Mapping[Instrument, Sequence[Reading]], accept: str) -> tuple[bytes, str]:
    """The page for Prometheus, in the format that it accepts, and its media type; for any thread."""
    encode, media_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(readings))
    return encode(registry), media_type


def _family(instrument: Instrument, readings: Iterable[Reading]) -> Metric:
    name, labels = instrument.prometheus, instrument.prometheus_labels
    if instrument.kind is Kind.HISTOGRAM:
        family = HistogramMetricFamily(name, instrument.meaning, labels=labels)
        for reading in readings:
            if isinstance(reading.value, Histogram):
                family.add_metric(reading.labels, _buckets(reading.value), reading.value.total)
        return family
    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
    numbers = kind(name, instrument.meaning, labels=labels)
    for reading in readings:
        if not isinstance(reading.value, Histogram):
            numbers.add_metric(reading.labels, reading.value)
    return numbers


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts what is at most a bound."""
    below, buckets = 0, []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets
