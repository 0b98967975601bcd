"""The instruments and the page about them; series stay bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from gateway.resilience.histogram import Histogram
from gateway.telemetry.instruments import INSTRUMENTS, Kind
from gateway.telemetry.metrics import MAX_SERIES, Meters

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
