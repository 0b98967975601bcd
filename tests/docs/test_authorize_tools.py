"""The page on authorisation: its configuration and claims give what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gateway.cli.main import main

_PAGE = (Path(__file__).parents[2] / "docs/how-to/authorize-tools.md").read_text()


def test_the_page_shows_what_check_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (configuration,) = re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)
    (session,) = re.findall(r"```console\n\$ cat clerk.json\n(.*?)```", _PAGE, re.DOTALL)
    claims, command, *shown = session.splitlines()
    (tmp_path / "gateway.yaml").write_text(configuration)
    (tmp_path / "clerk.json").write_text(claims)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[2:]) == 0
    assert capsys.readouterr().out.splitlines() == shown
