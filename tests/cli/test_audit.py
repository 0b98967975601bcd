"""`gateway audit` at the prompt, the recipe for archives, and the record of commands."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from gateway.cli.main import main
from gateway.demo.sample import make_shop
from gateway.telemetry.audit import events
from gateway.telemetry.audit.chain import Chain, Keys
from gateway.telemetry.audit.file_sink import FileSink
from gateway.telemetry.audit.recorder import Audit, Outlet
from gateway.telemetry.audit.redaction import Redactor
from tests.telemetry.audit.support import SECRET, chain_lines, head_of, records, two_chains, write

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/how-to/audit.md"


@pytest.fixture
def key(tmp_path: Path) -> str:
    return str(write(tmp_path / "key", [SECRET.encode(), b"\n"]))


def run(*words: str) -> int:
    return main(["audit", *words])


def test_a_whole_log_is_told_so(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "log", two_chains())
    assert run("verify", "--key-file", key, str(log)) == 0
    assert capsys.readouterr().out == "OK: 12 records in 2 chains.\n"


def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = two_chains()
    log = write(tmp_path / "log", [*lines[:2], lines[2].replace(b'"rows":1', b'"rows":2'), *lines[3:]])
    assert run("verify", "--key-file", key, str(log)) == 1
    error = capsys.readouterr().err
    assert f"{log}:3: record 3 of chain" in error
    assert "1 problem in 12 records in 2 chains." in error
    assert run("verify", "--json", "--key-file", key, str(log)) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["records"], len(report["problems"])) == (False, 12, 1)


def test_a_cut_end_needs_a_witness(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = chain_lines(5)
    log, heads = write(tmp_path / "log", lines[:4]), write(tmp_path / "heads", [head_of(lines[5])])
    assert run("verify", "--key-file", key, str(log)) == 0
    assert "has no end" in capsys.readouterr().err
    assert run("verify", "--key-file", key, "--witness", str(heads), str(log)) == 1
    assert "was cut off" in capsys.readouterr().err


def test_files_and_keys_that_are_not_there_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", str(tmp_path / "none")) == 1
    assert "No such file" in capsys.readouterr().err
    assert run("verify", "--key-file", str(tmp_path / "none"), str(tmp_path / "none")) == 1
    assert "--key-file" in capsys.readouterr().err


def _log(path: Path) -> Path:
    chain, redactor = Chain(Keys(SECRET)), Redactor(Keys(SECRET).arguments)
    lines = [chain.append(events.CHAIN_OPEN, {"key": Keys(SECRET).identity, "previous": None})]
    for number, subject in enumerate(["alice", "bob", "alice"]):
        arguments = {"id": redactor.hash(40 + number), "kind": "gold", "active": True, "name": redactor.hash("Ada")}
        fields = {"correlation_id": f"c{number}", "subject": subject, "client": "app", "tool": "t", "outcome": "ok"}
        lines.append(chain.append(events.TOOL_CALL, fields | {"arguments": arguments}))
    return write(path, lines)


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([], ["c0", "c1", "c2"]),
        (["--subject", "alice"], ["c0", "c2"]),
        (["--subject", "alice", "--correlation-id", "c2"], ["c2"]),
        (["--event", "tool.call", "--limit", "1"], ["c0"]),
        (["--tool", "other"], []),
        (["--argument", "id=41"], ["c1"]),
        (["--argument", "name=Ada", "--argument", "id=42"], ["c2"]),
        (["--argument", 'name:="Ada"'], ["c0", "c1", "c2"]),
        (["--argument", "kind=gold"], ["c0", "c1", "c2"]),
        (["--argument", "active=true"], ["c0", "c1", "c2"]),
        (["--since", "2020-01-01"], ["c0", "c1", "c2"]),
        (["--until", "2020-01-01T00:00:00+02:00"], []),
    ],
    ids=" ".join,
)
def test_search(
    flags: list[str], found: list[str], tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("search", str(_log(tmp_path / "log")), "--key-file", key, *flags)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["correlation_id"] for each in told if each["event"] == events.TOOL_CALL] == found
    assert code == (0 if told else 1)


def test_a_wrong_use_is_told(tmp_path: Path) -> None:
    log = str(_log(tmp_path / "log"))
    assert run("search", log, "--argument", "id") == 1
    for flags in (["--since", "yesterday"], ["--event", "nothing"]):
        with pytest.raises(SystemExit):
            run("search", log, *flags)


def _configuration(folder: Path, audit: str) -> Path:
    make_shop(folder / "shop.sqlite")
    (folder / "gateway.yaml").write_text(
        "auth: {issuers: [{issuer: 'https://idp.example.com/', audiences: [a]}]}\n"
        "sources: {shop: {engine: sqlite, path: shop.sqlite}}\n"
        "tools: {one: {description: One., source: shop, statement: select 1 as one}}\n" + audit
    )
    return folder / "gateway.yaml"


def test_a_check_of_databases_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _configuration(tmp_path, "audit: {sinks: [{file: {path: audit.jsonl}}]}\n")
    assert main(["check", "--config", str(path)]) == 0
    assert "warning" in capsys.readouterr().err, "there is no key"
    told = records(tmp_path / "audit.jsonl")
    assert [each["event"] for each in told] == [events.CHAIN_OPEN, events.OPERATOR_COMMAND, events.CHAIN_CLOSE]
    assert told[1].keys() == events.COMMON.keys() | events.EVENTS[events.OPERATOR_COMMAND].fields.keys()
    assert told[1]["sources"] == ["shop"]


def test_the_doctor_is_recorded_and_works_also_where_the_audit_ails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _configuration(tmp_path, "audit: {sinks: [{file: {path: audit.jsonl}}]}\n")
    assert main(["doctor", "--config", str(path), "--only", "shop"]) == 0
    told = records(tmp_path / "audit.jsonl")
    assert [each.get("command") for each in told] == [None, "doctor", None]
    (tmp_path / "audit.jsonl").chmod(0o666)
    capsys.readouterr()
    assert main(["doctor", "--config", str(path), "--only", "shop"]) == 0
    captured = capsys.readouterr()
    assert "shop" in captured.out
    assert "not recorded in the audit" in captured.err
    assert records(tmp_path / "audit.jsonl") == told


def test_offline_nothing_is_reached_and_nothing_recorded(tmp_path: Path) -> None:
    path = _configuration(tmp_path, "audit: {sinks: [{file: {path: audit.jsonl}}]}\n")
    assert main(["check", "--offline", "--config", str(path)]) == 0
    assert not (tmp_path / "audit.jsonl").exists()


def test_what_cannot_be_recorded_is_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _configuration(tmp_path, "audit: {sinks: [{file: {path: missing/audit.jsonl}}]}\n")
    assert main(["check", "--config", str(path)]) == 1
    assert "audit: the command cannot be recorded" in capsys.readouterr().err


def test_a_log_on_standard_output_stays_out_of_the_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = _configuration(tmp_path, "audit: {sinks: [{stdout: {}}]}\n")
    assert main(["check", "--json", "--config", str(path)]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["ok"] is True
    assert events.OPERATOR_COMMAND in captured.err


def test_without_sinks_a_check_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(_configuration(tmp_path, ""))]) == 0
    assert "warning: " in capsys.readouterr().err


class Recipe:
    """The how-to's script for archives, as it stands there.

    Args:
        folder: for the log, the archive and a `gateway` to be found by its name.
        key: a file with the chain key.
    """

    def __init__(self, folder: Path, key: str) -> None:
        blocks = PAGE.read_text().split("```sh\n")[1:]
        self._text = next(each for each in blocks if "archive.sh" in each).partition("```")[0]
        self.log, self.archive, programs = folder / "log", folder / "archive", folder / "bin"
        for each in (self.log, self.archive, programs):
            each.mkdir()
        (programs / "gateway").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gateway.cli.main "$@"\n')
        (programs / "gateway").chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "AUDIT_LOG": str(self.log),
            "AUDIT_ARCHIVE": str(self.archive),
            "AUDIT_KEY": key,
            "AUDIT_SEAL": "chmod a-w",
        }

    def __call__(self, month: str) -> int:
        """Run it; its exit code."""
        command = ["sh", "-c", self._text, "archive.sh", month]
        return subprocess.run(command, env=self._environment, check=False, capture_output=True).returncode


async def test_the_recipe_takes_the_month_that_is_over_while_records_are_written(tmp_path: Path, key: str) -> None:
    run_recipe, count = Recipe(tmp_path, key), 0
    path = run_recipe.log / "audit.jsonl"
    month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y%m")
    sink = FileSink(path)
    audit = Audit(Keys(SECRET), [Outlet(sink)])
    async with audit.running(sink.previous):
        await audit.write(events.TOOL_CALL, {"rows": count})
        archiving = asyncio.create_task(asyncio.to_thread(run_recipe, month))
        while not archiving.done():
            count += 1
            await audit.write(events.TOOL_CALL, {"rows": count})
            await asyncio.sleep(0.001)
        assert await archiving == 0
        await audit.write(events.TOOL_CALL, {"rows": count + 1})
    kept = run_recipe.archive / f"audit-{month}.jsonl.gz"
    assert [file.name for file in run_recipe.log.iterdir()] == ["audit.jsonl"]
    told = [json.loads(line) for line in gzip.decompress(kept.read_bytes()).splitlines()]
    before = [each["rows"] for each in told if each["event"] == events.TOOL_CALL]
    after = [each["rows"] for each in records(path) if each["event"] == events.TOOL_CALL]
    assert before + after == list(range(count + 2))
    assert before
    assert run("verify", "--key-file", key, str(kept), str(path)) == 0


def test_the_recipe_for_archives_runs_as_it_stands(tmp_path: Path, key: str) -> None:
    run_recipe = Recipe(tmp_path, key)
    log, archive = run_recipe.log, run_recipe.archive
    lines = two_chains(20, 20)
    write(log / "audit-20261102T000000.000000Z.jsonl", lines[:15])
    write(log / "audit-20261130T000000.000000Z.jsonl", lines[15:30])
    write(log / "audit-20261205T000000.000000Z.jsonl", lines[30:])
    assert run_recipe("202611") == 0
    assert [file.name for file in log.iterdir()] == ["audit-20261205T000000.000000Z.jsonl"]
    kept = archive / "audit-202611.jsonl.gz"
    assert kept.stat().st_mode & 0o222 == 0
    assert run_recipe("202611") != 0, "an archive is never written twice"
    assert run_recipe("202612") == 0
    assert run("verify", "--key-file", key, *map(str, archive.glob("*.gz"))) == 0
    write(log / "audit-20270101T000000.000000Z.jsonl", lines[:3] + lines[4:])
    assert run_recipe("202701") != 0, "a log that is not whole is not archived"
    assert (log / "audit-20270101T000000.000000Z.jsonl").exists()
