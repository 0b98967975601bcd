"""Pages point at tests that exist, and the one on threats leaves no item of its lists without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/reference/security.md").read_text()
PAGES: Final = "".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))
NAMED: Final = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGES)))
ROWS: Final = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_tests_exist(file: str, name: str) -> None:
    assert re.search(rf"^\s*(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"


@pytest.mark.parametrize("row", [row for row in ROWS if "shown by" not in row])
def test_every_row_is_shown_by_something(row: str) -> None:
    assert "`tests/" in row.rsplit("|", 2)[1], row


def test_the_list_is_whole() -> None:
    assert re.findall(r"^\| (MCP\d\d) ", PAGE, re.MULTILINE) == [f"MCP{number:02}" for number in range(1, 11)]
