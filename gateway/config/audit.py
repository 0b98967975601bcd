"""The audit: where its records go, and what happens when they cannot go there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.config.base import Name, Secret, Settings, Text, Timeout
from gateway.config.problems import Finding
from gateway.config.sources import AnySource, PostgresqlSettings
from gateway.config.units import Size

MIN_KEY: Final = 32
"""Fewest characters of a chain key: what `openssl rand -hex 16` gives."""


class SinkSettings(Settings):
    """What every sink can be told."""

    required: bool = True
    """Whether a record counts as written only once it is here."""
    records: Literal["all", "heads"] = "all"
    """What it gets: every record, or only the signed heads that show a cut tail elsewhere."""


class StdoutSinkSettings(SinkSettings):
    """Standard output, one record a line."""


class FileSinkSettings(SinkSettings):
    """A file that grows at its end, and is rotated by its size."""

    path: Path
    """The file; its folder exists, and nobody else may write there."""
    fsync: Literal["always", "interval", "never"] = "interval"
    """When records are forced to the disk: before they count as written, every second, or when the system likes."""
    rotate: Annotated[Size, Field(ge=64 << 10)] = 100 << 20
    """Size at which the file is renamed to NAME-TIME.jsonl and a new one begun."""
    keep: Annotated[int, Field(ge=1)] | None = None
    """Most rotated files kept, the oldest deleted first; without it nothing is ever deleted."""


class OtlpSinkSettings(SinkSettings):
    """OpenTelemetry logs, to the collector that the variables OTEL_EXPORTER_OTLP_* name."""


class PostgresqlSinkSettings(SinkSettings):
    """A table in one of the sources, over a connection of its own."""

    source: Name
    """A PostgreSQL source with access read-write, whose account may insert into the table and nothing more."""
    table: Annotated[Text, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$")]
    """The table, with its schema where it is not on the search path: audit.records."""


class AnySinkSettings(Settings):
    """One sink; exactly one of these keys."""

    stdout: StdoutSinkSettings | None = None
    """Standard output."""
    file: FileSinkSettings | None = None
    """A file."""
    otlp: OtlpSinkSettings | None = None
    """OpenTelemetry logs."""
    postgresql: PostgresqlSinkSettings | None = None
    """A PostgreSQL table."""

    @property
    def given(self) -> tuple[SinkSettings, ...]:
        """What is written, which should be one."""
        return tuple(each for each in (self.stdout, self.file, self.otlp, self.postgresql) if each is not None)


class AuditSettings(Settings):
    """The record of who did what."""

    sinks: tuple[AnySinkSettings, ...] = ()
    """Where records go, all of these; nothing is recorded without one."""
    on_failure: Literal["refuse", "continue"] = "refuse"
    """When a required sink fails: refuse calls and withhold answers that are not recorded, or go on without."""
    chain_key: Secret | None = None
    """Key of the chain and of the arguments' hashes, as a reference; at least 32 random characters."""
    write_timeout: Timeout = 5.0
    """How long a sink may take for a batch before it counts as failed."""
    head_interval: Annotated[Timeout, Field(ge=1.0)] = 60.0
    """How often the signed head of the chain goes to every sink, if the chain has grown."""
    queue: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Most records that wait for one sink; more are refused, or lost and counted."""


def audit_contradictions(settings: AuditSettings, sources: Mapping[str, AnySource]) -> Iterator[Finding]:
    """What is well-formed and still cannot be meant."""
    paths: dict[Path, int] = {}
    for index, sink in enumerate(settings.sinks):
        path = ("audit", "sinks", index)
        if len(sink.given) != 1:
            yield Finding(path, f"expected one of stdout, file, otlp or postgresql, got {len(sink.given)}")
        if sink.file and paths.setdefault(sink.file.path, index) != index:
            message = f"the same file as audit.sinks.{paths[sink.file.path]}"
            yield Finding((*path, "file", "path"), message)
        if sink.postgresql and (trouble := _source_trouble(sources.get(sink.postgresql.source))):
            involved = ("sources", sink.postgresql.source)
            yield Finding((*path, "postgresql", "source"), trouble, (involved,))
    key = settings.chain_key
    if key is not None and len(key.get_secret_value()) < MIN_KEY:
        message = f"expected at least {MIN_KEY} characters, such as openssl rand -hex 32 makes"
        yield Finding(("audit", "chain_key"), message)
    every = [given for sink in settings.sinks for given in sink.given]
    holds = any(given.required and given.records == "all" for given in every)
    if every and settings.on_failure == "refuse" and not holds:
        message = "refuse needs a sink with required: true and records: all; give one, or write continue"
        yield Finding(("audit", "on_failure"), message, (("audit", "sinks"),))


def _source_trouble(source: AnySource | None) -> str:
    if source is None:
        return "there is no source of this name"
    if not isinstance(source, PostgresqlSettings):
        return f"expected a source of engine postgresql; this one is {source.engine}"
    return "" if source.access == "read-write" else "the source is read-only; give it access: read-write"
