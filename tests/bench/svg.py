"""Three kinds of drawing, as SVG: bars for contenders, a curve on logarithmic axes for growth, panels over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from tests.bench.figures import Figure, number

_WIDTH: Final = 720
_INK: Final = "#1f2933"
_GRID: Final = "#d9dee4"
_COLOURS: Final = ("#2a6f97", "#9fb3c8")
_LABEL: Final = 300
_BAR: Final = 26


def _frame(height: int, title: str, parts: Sequence[str]) -> str:
    text = f'font-family="sans-serif" font-size="12" fill="{_INK}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" {text}>'
    paper = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    name = f'<title>{escape(title)}</title><text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, paper, name, *parts, "</svg>", ""])


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = _INK) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def bars(title: str, unit: str, rows: Sequence[tuple[str, Figure]], own: str = "gateway") -> str:
    """A bar for each row, its least and most as a whisker; ours stand out.

    Args:
        title: what is shown.
        unit: of the figures.
        rows: name and figure.
        own: names that begin so are ours.
    """
    scale = (_WIDTH - _LABEL - 110) / max(figure.maximum for _, figure in rows)
    parts = []
    for index, (name, figure) in enumerate(rows):
        top = 40 + index * _BAR
        length, middle = figure.median * scale, top + _BAR / 2 - 3
        colour = _COLOURS[0] if name.startswith(own) else _COLOURS[1]
        parts += [
            _text(_LABEL - 8, middle + 4, name, "end"),
            f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR - 8}" fill="{colour}"/>',
            _line(_LABEL + figure.minimum * scale, middle, _LABEL + figure.maximum * scale, middle),
            _text(_LABEL + figure.maximum * scale + 6, middle + 4, f"{number(figure.median)} {unit}"),
        ]
    return _frame(52 + len(rows) * _BAR, title, parts)


def curve(title: str, across: str, up: str, points: Sequence[tuple[float, Figure]]) -> str:
    """A curve through the medians, with whiskers; both axes are logarithmic, so what is straight has slope one.

    Args:
        title: what is shown.
        across: what grows.
        up: what is measured, and its unit.
        points: smallest first; a size of nothing is drawn as one.
    """
    left, right, top, bottom = 80, _WIDTH - 40, 52, 330
    sizes = [max(1.0, size) for size, _ in points]
    low, high = _decades(min(figure.minimum for _, figure in points), max(figure.maximum for _, figure in points))
    first, last = _decades(min(sizes), max(sizes))

    def place(size: float, value: float) -> tuple[float, float]:
        x = left + (math.log10(size) - first) / (last - first) * (right - left)
        y = bottom - (math.log10(max(value, 10.0**low)) - low) / (high - low) * (bottom - top)
        return x, y

    parts = []
    for decade in range(low, high + 1):
        y = place(10.0**first, 10.0**decade)[1]
        parts += [
            _line(left, y, right, y, _GRID),
            _text(left - 6, y + 4, f"{10**decade:,}" if decade >= 0 else f"{10.0**decade:g}", "end"),
        ]
    for decade in range(first, last + 1):
        x = place(10.0**decade, 10.0**low)[0]
        parts += [_line(x, top, x, bottom, _GRID), _text(x, bottom + 16, f"{10**decade:,}", "middle")]
    middles = [place(size, figure.median) for size, (_, figure) in zip(sizes, points, strict=True)]
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in middles)
    parts.append(f'<polyline points="{way}" fill="none" stroke="{_COLOURS[0]}" stroke-width="2"/>')
    for size, (_, figure) in zip(sizes, points, strict=True):
        x, y = place(size, figure.median)
        parts += [_line(x, place(size, figure.minimum)[1], x, place(size, figure.maximum)[1], _COLOURS[0])]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_COLOURS[0]}"/>']
    parts += [_text((left + right) / 2, bottom + 36, across, "middle"), _text(12, 38, up)]
    return _frame(bottom + 46, title, parts)


def panels(title: str, across: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    """One line for each quantity over the same time, each from nothing upwards, so that what is flat looks flat.

    Args:
        title: what is shown.
        across: the unit of time.
        series: name, and time and value of each point.
    """
    left, right, height = 80, _WIDTH - 40, 120
    longest = max((moment for _, points in series for moment, _ in points), default=0.0) or 1.0
    parts = []
    for index, (name, points) in enumerate(series):
        top = 62 + index * (height + 44)
        most = (max(value for _, value in points) or 1.0) * 1.1
        parts.append(_text(left, top - 8, name))
        for share in (0.0, 0.5, 1.0):
            y = top + height * (1 - share)
            parts += [_line(left, y, right, y, _GRID), _text(left - 6, y + 4, number(most * share), "end")]
        places = (
            (left + moment / longest * (right - left), top + height * (1 - value / most)) for moment, value in points
        )
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{_COLOURS[0]}" stroke-width="1.5"/>')
    bottom = 62 + len(series) * (height + 44) - 44
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(left + share * (right - left), bottom + 16, number(longest * share), "middle"))
    parts.append(_text((left + right) / 2, bottom + 34, across, "middle"))
    return _frame(bottom + 44, title, parts)


def _decades(low: float, high: float) -> tuple[int, int]:
    """The powers of ten around a range; at least one apart."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return first, max(last, first + 1)
