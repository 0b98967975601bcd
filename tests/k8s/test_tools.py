"""A kubectl that is missing, too old or broken is told so, before anything is rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.k8s.tools import find_kubectl, kubectl, version


def _kubectl(folder: Path, body: str) -> str:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(folder)


def _says(minor: str) -> str:
    return f"""echo '{{"clientVersion": {{"major": "1", "minor": "{minor}"}}}}'"""


def test_an_old_one_is_told_by_its_version(tmp_path: Path) -> None:
    path = _kubectl(tmp_path, _says("20"))
    assert find_kubectl(path) == (None, f"kubectl 1.25 or newer is needed; {tmp_path}/kubectl is 1.20")


@pytest.mark.parametrize("minor", ["25", "25+", "37"])
def test_one_that_is_new_enough_is_taken(tmp_path: Path, minor: str) -> None:
    assert find_kubectl(_kubectl(tmp_path, _says(minor))) == (tmp_path / "kubectl", "")


@pytest.mark.parametrize("body", ["exit 1", "echo nonsense", "echo '[]'", "echo '{\"clientVersion\": {}}'"])
def test_one_that_does_not_tell_its_version_is_not_taken(tmp_path: Path, body: str) -> None:
    found, trouble = find_kubectl(_kubectl(tmp_path, body))
    assert found is None
    assert trouble.endswith("does not tell its version")


def test_none_is_told(tmp_path: Path) -> None:
    found, trouble = find_kubectl(str(tmp_path))
    assert found is None
    assert "none on PATH" in trouble


def test_there_is_one_here() -> None:
    assert kubectl().exists()
    assert version("") is None
