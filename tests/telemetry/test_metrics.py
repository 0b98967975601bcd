"""The instruments and the page about them; series stay bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from gateway.errors import Code
from gateway.resilience.histogram import Histogram
from gateway.telemetry.instruments import INSTRUMENTS, Kind
from gateway.telemetry.metrics import MAX_SERIES, Meters, fault

PAGE: Final = Path(__file__).parents[2] / "docs/reference/metrics.md"


def test_ever_new_tools_end_in_one_series() -> None:
    meters = Meters()
    for number in range(MAX_SERIES + 500):
        meters.request("POST", 200, "tools/call", f"tool{number}", "ok", 0.001)
        meters.statement("sqlite", "shop", f"tool{number}", "", 0.001)
    readings = list(meters.read())
    assert len(readings) < 3 * MAX_SERIES + 20
    others = [each for each in readings if "_OTHER" in each.labels]
    assert sorted(each.value.count if isinstance(each.value, Histogram) else each.value for each in others) == [
        500,
        500,
        500,
    ]


def test_what_callers_can_mend_is_theirs_and_all_else_is_ours() -> None:
    """Alerts count what is ours; a new code must be put on one side."""
    mendable = {Code.INVALID_ARGUMENTS, Code.INVALID_VALUE, Code.CONSTRAINT_VIOLATION, Code.RESULT_TOO_LARGE}
    # What a token lacks, and what calling again settles.
    mendable |= {Code.ACCESS_DENIED, Code.CONFLICT}
    assert {code for code in Code if fault(code) == "caller"} == mendable
    assert {code for code in Code if fault(code) == "gateway"} == set(Code) - mendable
    assert fault("ok") == "none"
    assert fault("internal", 500) == fault("refused", 503) == fault("-32603") == "gateway"
    assert fault("refused", 413) == fault("rate_limited", 429) == fault("cancelled") == "caller"


def rows() -> list[str]:
    """The table of the reference page."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for each in INSTRUMENTS:
        labels = ", ".join(f"`{label}`" for label in each.prometheus_labels)
        name = f"`{each.prometheus}`<br>`{each.name}`"
        lines.append(f"| {name} | {each.kind}, {each.unit} | {labels} | {each.meaning} |")
    return lines


def test_the_page_lists_every_instrument() -> None:
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("|")] == rows()


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_used(kind: Kind) -> None:
    assert any(each.kind is kind for each in INSTRUMENTS)
