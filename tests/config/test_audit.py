"""Contradictions in the section `audit`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.loader import load
from gateway.config.problems import ConfigError

BASE = """
auth: {issuers: [{issuer: "https://idp.example.com/", audiences: [a]}]}
sources:
  shop: {engine: sqlite, path: shop.sqlite}
  log: {engine: postgresql, host: db, database: log, user: u, access: read-write}
  ro: {engine: postgresql, host: db, database: log, user: u}
"""


def problems(folder: Path, audit: str, key: str = "k" * 32) -> list[str]:
    (folder / "gateway.yaml").write_text(f"{BASE}audit: {audit}\n")
    try:
        load(folder / "gateway.yaml", environment={"KEY": key})
    except ConfigError as error:
        return [str(problem).partition(": ")[2] for problem in error.problems]
    return []


WHOLE = """
audit: {sinks: [{stdout: {}}, {file: {path: /var/log/gateway/audit.jsonl, fsync: interval, rotate: 100MiB}}, {otlp: {}},
  {postgresql: {source: log, table: audit.records}}], on_failure: refuse, chain_key: "${file:key}"}
telemetry: {traces: {sample: 0.1, sql_comment: static}, logs: {format: json, level: info}, metrics: {}}
"""


def test_everything_at_once_is_taken(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 32)
    (tmp_path / "gateway.yaml").write_text(BASE + WHOLE)
    settings = load(tmp_path / "gateway.yaml", environment={}).settings
    assert len(settings.audit.sinks) == 4
    assert settings.audit.sinks[1].file is not None
    assert settings.audit.sinks[1].file.rotate == 100 << 20
    assert settings.audit.on_failure == "refuse"
    assert (settings.telemetry.traces.sample, settings.telemetry.traces.sql_comment) == (0.1, "static")


@pytest.mark.parametrize(
    "audit",
    [
        "{}",
        "{sinks: [{stdout: {}}]}",
        '{sinks: [{file: {path: a.jsonl}}, {stdout: {records: heads}}], chain_key: "${env:KEY}"}',
        "{sinks: [{postgresql: {source: log, table: audit.records}}, {otlp: {required: false}}]}",
        "{sinks: [{otlp: {required: false}}], on_failure: continue}",
    ],
)
def test_what_is_meant_is_taken(audit: str, tmp_path: Path) -> None:
    assert problems(tmp_path, audit) == []


@pytest.mark.parametrize(
    ("audit", "expected"),
    [
        ("{sinks: [{}]}", "audit.sinks.0: expected one of stdout, file, otlp or postgresql, got 0"),
        ("{sinks: [{stdout: {}, otlp: {}}]}", "audit.sinks.0: expected one of stdout, file, otlp or postgresql, got 2"),
        ("{sinks: [{stdout: {required: false}}]}", "audit.on_failure: refuse needs a sink"),
        ("{sinks: [{stdout: {records: heads}}]}", "audit.on_failure: refuse needs a sink"),
        ("{sinks: [{file: {path: a}}, {file: {path: a}}]}", "audit.sinks.1.file.path: the same file as audit.sinks.0"),
        ("{sinks: [{postgresql: {source: shop, table: t}}]}", "audit.sinks.0.postgresql.source: expected a source of"),
        ("{sinks: [{postgresql: {source: ro, table: t}}]}", "audit.sinks.0.postgresql.source: the source is read-only"),
        ("{sinks: [{postgresql: {source: x, table: t}}]}", "audit.sinks.0.postgresql.source: there is no source"),
        ("{sinks: [{postgresql: {source: log, table: 't; drop'}}]}", "audit.sinks.0.postgresql.table: "),
        ('{chain_key: "${env:KEY}", sinks: [{stdout: {}}]}', "audit.chain_key: expected at least 32 characters"),
        ("{sinks: [{file: {path: a, rotate: 1KiB}}]}", "audit.sinks.0.file.rotate: expected at least 64KiB"),
    ],
)
def test_what_cannot_be_meant_is_told(audit: str, expected: str, tmp_path: Path) -> None:
    found = problems(tmp_path, audit, key="short")
    assert len(found) == 1
    assert found[0].startswith(expected)
