"""What `gateway doctor` prints for people, what never gets printed, and which exit code follows."""

from __future__ import annotations

import io
import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.cli.doctor import network
from gateway.cli.doctor.paper import page, wants_colour
from gateway.cli.doctor.report import Outcome, Step, Target, document, exit_code, secrets_of, without
from gateway.cli.main import main
from gateway.config.models import GatewaySettings
from tests.cli.doctor import write


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.sqlite").touch()
    sources = {name: {"engine": "sqlite", "path": f"{name}.sqlite"} for name in ("good", "missing")}
    assert main(["doctor", "--config", str(write(tmp_path, sources=sources))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"source good  sqlite {tmp_path}/good.sqlite"
    assert lines[1].startswith(f"  ok    file            {tmp_path}/good.sqlite, 0 bytes")
    assert f"  FAIL  file            {tmp_path}/missing.sqlite: No such file or directory" in lines
    assert any(line.startswith("                        -> Is the volume mounted here") for line in lines)
    assert lines[-1] == "1 of 2 targets cannot be used: missing."
    assert "\x1b" not in "".join(lines)
    assert main(["doctor", "--only", "good", "--config", str(tmp_path / "gateway.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "OK: 1 target."


def test_colours_on_a_real_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    (tmp_path / "a.sqlite").touch()
    path = write(tmp_path, sources={"a": {"engine": "sqlite", "path": "a.sqlite"}})
    words = [sys.executable, "-m", "gateway.cli.main", "doctor", "--config", str(path)]
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            subprocess.run(words, stdout=theirs, env=environment, check=True, timeout=60)
            shown = terminal.read(65536).decode()
        finally:
            os.close(theirs)
    assert "\x1b[32mok" in shown
    assert "OK: 1 target." in shown


def test_who_wants_colours() -> None:
    assert wants_colour(Terminal(), {})
    assert not wants_colour(Terminal(), {"TERM": "dumb"})
    assert not wants_colour(Terminal(), {"NO_COLOR": "1"})
    assert wants_colour(Terminal(), {"NO_COLOR": ""})
    assert not wants_colour(io.StringIO(), {})


@given(st.lists(st.lists(st.sampled_from(list(Outcome)), max_size=6), max_size=4))
def test_the_exit_code_follows_from_the_worst(outcomes: list[list[Outcome]]) -> None:
    steps = [[Step("x", outcome, "text", "advice") for outcome in each] for each in outcomes]
    targets = [Target("source", str(number), "here", each) for number, each in enumerate(steps)]
    flat = [outcome for each in outcomes for outcome in each]
    expected = 124 if Outcome.TIMED_OUT in flat else 1 if Outcome.FAILED in flat else 0
    assert exit_code(targets) == document(targets)["exit_code"] == expected
    lines = list(page(targets, in_colour=False))
    assert lines[-1].startswith("OK") == (expected == 0)
    assert sum(line.startswith(("  FAIL", "  TIME")) for line in lines) == flat.count(Outcome.FAILED) + flat.count(
        Outcome.TIMED_OUT
    )


def test_whatever_a_server_says_no_secret_is_printed() -> None:
    settings = GatewaySettings.model_validate(
        {
            "redis": {"url": "redis://127.0.0.1", "key": SecretStr('quo"ted-secret'), "password": SecretStr("longer")},
            "sources": {
                "a": {
                    "engine": "postgresql",
                    "host": "h",
                    "database": "d",
                    "user": "u",
                    "credentials": ({"when": {"scope": "s"}, "user": "v", "password": SecretStr("longer-one")},),
                    "password": SecretStr("abc"),
                }
            },
        }
    )
    found = set(secrets_of(settings))
    assert found == {'quo"ted-secret', "longer", "longer-one"}  # three letters would make holes in ordinary words
    assert without('longer-one longer quo"ted-secret abc', found) == "*** *** *** abc"


def test_a_secret_that_a_server_sends_back_is_struck_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_WORD", 'pass"word-1')
    source = {"engine": "postgresql", "host": "127.0.0.1", "port": 1, "database": "d", "user": 'pass"word-1'}
    path = write(tmp_path, sources={"a": source | {"password": "${env:THE_WORD}"}})
    for flags in ([], ["--json"]):
        assert main(["doctor", "--config", str(path), *flags]) == 1
        out = capsys.readouterr().out
        assert "as ***" in out
        assert "word-1" not in out


def test_a_driver_that_is_not_installed_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").touch()
    there = {"engine": "sqlite", "path": "a.sqlite"}
    sources = {
        "file": there,
        "p": {"engine": "postgresql", "host": str(tmp_path), "database": "d", "user": "u"},
    }
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()
        words = "import sys; sys.modules |= dict.fromkeys(('asyncpg', 'aiomysql', 'pymysql', 'redis', 'aiocache'))"
        words += "; from gateway.cli.main import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", words, "doctor", "--config", str(write(tmp_path, sources=sources)), "--json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (1, "")
    file, missing = json.loads(result.stdout)["targets"]
    assert file["ok"]
    assert [step["name"] for step in missing["steps"]] == ["socket", "doctor"]
    assert "pip install" in missing["steps"][1]["text"]


async def test_names_that_are_none() -> None:
    for host in ("a" * 64 + ".test", "..", "a..b", "x y.invalid", "\u00e4" * 80):
        step, addresses = await network.look_up(network.Endpoint(host, 1, "database"), 5)
        assert (step.outcome, addresses) == (Outcome.FAILED, []), host
        assert step.text.startswith(host)
        json.dumps(step.text)
