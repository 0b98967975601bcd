"""Figures of several rounds, and the tables they go into."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over the rounds of a run."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        ordered = sorted(values)
        return cls(ordered[0], statistics.median(ordered), ordered[-1])

    def __str__(self) -> str:
        low, middle, high = (number(value) for value in (self.minimum, self.median, self.maximum))
        return middle if low == high else f"{middle} ({low}-{high})"


def ratio(values: Sequence[float], base: Sequence[float]) -> Figure:
    """Round by round against the base of the same round, so that what slowed the whole machine cancels out."""
    return Figure.of(value / other for value, other in zip(values, base, strict=True))


def number(value: float) -> str:
    """Three figures are what such measurements carry."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


@dataclass(frozen=True, slots=True)
class Table:
    """What a bench found.

    Attributes:
        title: what the table shows.
        columns: their heads; the first names the row.
        rows: a name and its figures; text stands as it is.
        notes: what the reader must know beside the figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()

    def cells(self) -> list[list[str]]:
        return [[number(cell) if isinstance(cell, int | float) else str(cell) for cell in row] for row in self.rows]

    def text(self) -> str:
        """For the terminal."""
        lines = [list(self.columns), *self.cells()]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        drawn = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
        return "\n".join([f"== {self.title}", *drawn, *(f"   {note}" for note in self.notes)])

    def markdown(self) -> str:
        """For the page."""
        rule = "|".join("---" if index == 0 else "---:" for index in range(len(self.columns)))
        rows = ["| " + " | ".join(line) + " |" for line in self.cells()]
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"### {self.title}", "", "| " + " | ".join(self.columns) + " |", f"|{rule}|", *rows, *notes])

    def record(self) -> dict[str, Any]:
        """For JSON."""
        rows = [[_plain(cell) for cell in row] for row in self.rows]
        return {"title": self.title, "columns": self.columns, "rows": rows, "notes": self.notes}


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _plain(cell: Any) -> Any:
    if isinstance(cell, Figure):
        return {"min": cell.minimum, "median": cell.median, "max": cell.maximum}
    return cell
