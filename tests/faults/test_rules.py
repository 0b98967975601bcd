"""The rules notice what they are there for: a harness that could not fail would show nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Code
from tests.faults.backends import Backend
from tests.faults.calls import HUNG, LOST, OK, WRONG, Outcome
from tests.faults.load import check_writes
from tests.faults.report import Row, keep, markdown, text, write
from tests.faults.trial import check_message

SECRETS, ADDRESSES = {"s3cret-of-the-tests"}, {"10.0.20.5", "5432"}


class Table(Backend):
    """What a database holds, as a scenario finds it."""

    name = "shop"

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    async def written(self, table: str) -> Counter[str]:
        return Counter(self._keys if table == "note" else ())


def write_of(word: str, key: str = "k", tool: str = "shop_note") -> Outcome:
    return Outcome(tool, 0.0, word=word, key=key)


@pytest.mark.parametrize(
    ("word", "there", "bad"),
    [
        (OK, ("k",), ""),
        (OK, (), "lost"),
        (OK, ("k", "k"), "doubled"),
        (WRONG, (), "lost"),
        ("outcome_unknown", (), ""),
        ("outcome_unknown", ("k",), ""),
        ("outcome_unknown", ("k", "k"), "doubled"),
        (LOST, ("k",), ""),
        (HUNG, ("k", "k"), "doubled"),
        ("source_unavailable", (), ""),
        ("source_unavailable", ("k",), "phantoms"),
        ("statement_timeout", ("k",), "phantoms"),
    ],
)
async def test_writes_are_held_against_what_was_told(word: str, there: tuple[str, ...], bad: str) -> None:
    writes = await check_writes([write_of(word)], [Table(*there)])
    assert [name for name in ("lost", "doubled", "phantoms") if getattr(writes, name)] == ([bad] if bad else [])
    assert writes.bad == bool(bad)


def failure(**changes: Any) -> Outcome:
    code = changes.pop("code", "source_unavailable")
    details = {"code": code, "retryable": True, "retry_after_ms": 100, "correlation_id": "c"} | changes
    message = details.pop("message", "The data source is not available now; nothing was run. Wait and call again.")
    return Outcome("shop_read", 0.0, word=code, message=message, details=details)


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "No."},
        {"message": "Nobody answers at 10.0.20.5; wait and call again."},
        {"message": "Connection to port 5432 refused; wait and call again."},
        {"message": "The login with s3cret-of-the-tests failed; tell the operator."},
        {"hint": "s3cret-of-the-tests"},
        {"retryable": False},
        {"retry_after_ms": None},
        {"correlation_id": ""},
        {"code": "made_up"},
    ],
)
def test_messages_that_help_nobody_or_tell_too_much(changes: dict[str, Any]) -> None:
    check_message(failure(), SECRETS, ADDRESSES)
    with pytest.raises((AssertionError, ValueError)):
        check_message(failure(**changes), SECRETS, ADDRESSES)


def test_a_failure_without_a_time_where_none_is_known() -> None:
    check_message(failure(code=Code.CONNECTION_LOST.value, retry_after_ms=None), SECRETS, ADDRESSES)


def row(group: str, what: str) -> Row:
    failed, hidden = Counter({"connection_lost": 2}), Counter({"conflict": 1})
    return Row(group, what, 10, 8, failed, hidden, 0, 0, 1.5, None, (6, 6), (100.0, 101.5))


def test_tables_are_kept_and_written_in_place_of_the_last_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- written by make faults: begin -->\n<!-- written by make faults: end -->\n\nEnd.\n")
    keep([row("network", "reset"), row("databases", "killed"), row("databases", "frozen")], tmp_path / "kept")
    write(page, tmp_path / "kept")
    keep([row("databases", "down")], tmp_path / "kept")
    write(page, tmp_path / "kept")
    written = page.read_text()
    assert written.startswith("# Title\n\n<!--")
    assert written.endswith("-->\n\nEnd.\n")
    assert written.index("| down | 10 | 8 | 2 connection_lost |") < written.index("| reset | 10 |")
    assert "killed" not in written
    assert len(markdown([row("network", "reset")]).splitlines()) == 3
    assert "6 → 6" in text([row("network", "reset")])
