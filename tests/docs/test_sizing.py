"""The pages on sizing and cost: their tables and their calculator compute what their formulas say."""

from __future__ import annotations

import re
import subprocess
from math import ceil
from pathlib import Path
from typing import Final

import pytest

from tests.k8s.rendered import configuration, gateway_container, one

DOCS: Final = Path(__file__).parents[2] / "docs/how-to"
SIZING: Final = (DOCS / "sizing.md").read_text()
CPU, HELD = 0.0006, 0.020


def _rows() -> list[list[str]]:
    _, _, table = SIZING.partition("| load | peak `r` |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", _rows(), ids=lambda row: str(row[0]))
def test_the_table_follows_from_the_formulas(row: list[str]) -> None:
    peak, pods, most, busy, pool, budget = map(int, row[1:7])
    assert pods == max(3, ceil(round(peak * CPU / 0.35, 6)))
    assert most == max(6, ceil(1.5 * pods))
    assert busy == round(peak * HELD)
    assert pool == max(2, ceil(round(1.5 * busy / pods, 6)))
    assert budget == (most + 1) * pool
    assert ("as it comes" in row[7]) == (budget <= 97)


def test_the_figures_are_those_of_the_manifests() -> None:
    requests = gateway_container("production")["resources"]["requests"]
    target = one("production", "HorizontalPodAutoscaler")["spec"]["metrics"][0]["resource"]["target"]
    assert requests["cpu"] == "500m"
    assert target["averageUtilization"] * 0.5 / 100 == 0.35
    assert configuration("production")["sources"]["shop"]["pool"]["max"] == 10
    assert "10 x (6 + 1) = 70" in SIZING


def test_the_calculator_gives_what_the_page_shows() -> None:
    page = (DOCS / "cost.md").read_text()
    (command, shown) = re.findall(r"```console\n\$ (awk .*?}')\n(.*?)\n```", page, re.DOTALL)[0]
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == shown
    large = command.replace("45000", "10000000")
    result = subprocess.run(["sh", "-c", large], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("3.0 pods")
    assert result.stdout.rstrip().endswith(" 0.16 for a million calls")
