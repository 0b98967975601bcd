"""Runs `gateway doctor` for tests: in this process, in a thread, so that servers of the test's own loop can answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main


@dataclass(frozen=True)
class Visit:
    """What one run gave.

    Attributes:
        code: the exit code.
        document: the JSON.
        steps: for each target, its steps by name; the last of each.
    """

    code: int
    document: dict[str, Any]
    steps: Mapping[str, Mapping[str, dict[str, Any]]]


def write(folder: Path, **sections: Any) -> Path:
    """A configuration; JSON is YAML."""
    path = folder / "gateway.yaml"
    path.write_text(json.dumps({"auth": {"mode": "none"}} | sections))
    return path


def visit(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Visit:
    """Run the command with `--json`."""
    code = main(["doctor", "--config", str(path), "--json", *flags])
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["exit_code"] == code
    assert document["ok"] == (code == 0)
    targets = {each["name"]: {step["name"]: step for step in each["steps"]} for each in document["targets"]}
    for steps in targets.values():
        for step in steps.values():
            # Whatever is not well says what to do next.
            assert bool(step["advice"]) == (step["outcome"] in ("warning", "failed", "timed_out")), step
    return Visit(code, document, targets)


async def visit_beside(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Visit:
    """The same, while the loop goes on."""
    return await asyncio.to_thread(visit, path, capsys, *flags)
