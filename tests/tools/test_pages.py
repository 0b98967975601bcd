"""The limit on a result's bytes: whole rows, never a byte more, and said in words."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database.engine import Column, Json, Kind, Table
from gateway.errors import Code, ToolError
from gateway.tools.results import present
from tests.tools.test_results import Shown

_TEXT = (Column("v", Kind.TEXT),)


def _table(values: list[Any], **more: Any) -> Table:
    return Table(_TEXT, [(value,) for value in values], **more)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=200),
    st.integers(1024, 4096),
    st.booleans(),
    st.none() | st.integers(0, 10**6),
)
def test_as_many_rows_as_fit_and_not_one_more(values: list[str], limit: int, more: bool, affected: int | None) -> None:
    table = _table(values, is_truncated=more, affected=affected)
    result = present(table, Shown(max_result_bytes=limit))
    assert result.structured is not None
    assert len(result.structured) <= limit
    content = json.loads(result.structured)
    count = result.row_count
    assert [row["v"] for row in content["rows"]] == values[:count]
    assert content["row_count"] == count
    assert content["truncated"] is (more or count < len(values))
    assert content.get("affected_rows") == affected
    assert bool(result.hints) is content["truncated"]
    if count < len(values):
        larger = present(_table(values[: count + 1], affected=affected), Shown(max_result_bytes=1 << 20)).structured
        assert larger is not None
        # "false" has a byte more than "true", and the count may have a digit more.
        assert len(larger) >= limit - 1 - len(str(len(values)))


@pytest.mark.parametrize("count", [3, 500])
def test_the_cut_says_why_and_what_to_do(count: int) -> None:
    result = present(_table(["x" * 600] * count), Shown(max_result_bytes=1400, narrowing=("country",)))
    assert json.loads(result.text)["truncated"] is True
    assert (result.row_count, result.is_error) == (2, False)
    assert result.hints == (
        "Only the first 2 rows are shown, since a result may have at most 1400B; there are more."
        " Narrow the query with: country; or look for a tool that aggregates.",
    )


def test_rows_at_the_very_limit_are_not_cut() -> None:
    whole = present(_table(["x" * 600] * 100), Shown()).structured
    assert whole is not None
    assert present(_table(["x" * 600] * 100), Shown(max_result_bytes=len(whole))).structured == whole
    assert present(_table(["x" * 600] * 100), Shown(max_result_bytes=len(whole) - 1)).row_count == 99


@pytest.mark.parametrize("affected", [None, 1])
def test_a_row_beyond_the_limit_is_a_failure_not_an_empty_page(affected: int | None) -> None:
    with pytest.raises(ToolError) as caught:
        present(_table(["x" * 2000], affected=affected), Shown(max_result_bytes=1024))
    assert caught.value.code is Code.RESULT_TOO_LARGE
    assert not caught.value.is_retryable
    assert "1KiB" in caught.value.message
    assert caught.value.message.startswith("The change was made" if affected else "One row alone")


def test_what_was_cut_off_is_not_looked_at() -> None:
    values = [Json('"x"')] * 400 + [Json("broken")]
    assert present(_table(values), Shown(max_result_bytes=1024)).row_count > 0


def test_memory_is_bounded_by_the_limit_and_not_by_the_rows() -> None:
    table = _table(["x" * 1000] * 50_000)
    tracemalloc.start()
    present(table, Shown(max_result_bytes=1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20
