"""A soak in words, in figures and as a plot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench import svg
from tests.bench.figures import Table
from tests.soak.run import Found

_POINTS: Final = 360
_BEGIN: Final = "<!-- soak: written by make soak -->"
_END: Final = "<!-- end of soak -->"
PLOT: Final = "soak.svg"


def record(found: Found, machine: Mapping[str, Any], date: str) -> dict[str, Any]:
    """What is kept.

    Args:
        found: by the soak.
        machine: its facts.
        date: when it began.
    """
    trends = [
        {
            "name": each.quantity.name,
            "first": each.first,
            "median": each.median,
            "last": each.last,
            "most": each.most,
            "growth": each.growth,
            "bound": each.quantity.bound,
        }
        for each in found.watch.trends()
    ]
    return {
        "date": date,
        "machine": dict(machine),
        "seconds": round(found.seconds, 1),
        "calls": found.calls,
        "counts": dict(found.counts),
        "wrong": len(found.wrong),
        "examples": found.wrong[:20],
        "lost": found.lost,
        "doubled": found.doubled,
        "reloads": found.reloads,
        "log_lines": found.log.lines,
        "complaints": found.complaints,
        "trends": trends,
        "sampled": found.watch.seconds,
        "samples": {quantity.name: values for quantity, values in found.watch.samples.items()},
    }


def tables(kept: Mapping[str, Any]) -> list[Table]:
    """What was held, and what was asked."""
    held = tuple(
        (each["name"], *(each[key] for key in ("first", "median", "last", "most", "growth", "bound")))
        for each in kept["trends"]
    )
    columns = ("held", "first tenth", "second half", "last tenth", "most", "growth in the second half", "allowed")
    counts = tuple((kind, f"{count:,}") for kind, count in sorted(kept["counts"].items(), key=lambda item: -item[1]))
    return [
        Table("What the gateway held", columns, held),
        Table("Calls, each answered as it should", ("", "calls"), counts),
    ]


def _summary(kept: Mapping[str, Any]) -> str:
    minutes, rate = kept["seconds"] / 60, kept["calls"] / kept["seconds"]
    return (
        f"{kept['date']}: {kept['calls']:,} calls in {minutes:.1f} minutes ({rate:.0f} a second), "
        f"{kept['wrong']} answered wrongly, {kept['lost']} writes lost, {kept['doubled']} doubled, "
        f"{kept['reloads']} reloads, {kept['log_lines']:,} lines of log"
    )


def text(kept: Mapping[str, Any]) -> str:
    """For the terminal."""
    verdict = [f"NOT GOOD: {each}" for each in kept["complaints"]] or ["flat, and every answer was right"]
    return "\n\n".join([*(table.text() for table in tables(kept)), _summary(kept), *verdict])


def plot(kept: Mapping[str, Any]) -> str:
    """One panel for each quantity over time."""
    minutes = [second / 60 for second in kept["sampled"]]
    panels = [(name, _thinned(minutes, values)) for name, values in kept["samples"].items()]
    return svg.panels(f"A soak of {kept['calls']:,} calls", "minutes", panels)


def _thinned(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """The largest sample of each stretch, so that no peak is hidden."""
    size = max(1, -(-len(values) // _POINTS))
    return [(times[first], max(values[first : first + size])) for first in range(0, len(values), size)]


def write(kept: Mapping[str, Any], folder: Path) -> list[Path]:
    """Put the plot beside the page on reliability, and the figures between its marks."""
    page, drawing = folder / "reliability.md", folder / PLOT
    drawing.write_text(plot(kept))
    facts = kept["machine"]
    about = (
        f"Machine: {facts['cpu']}, {facts['cores']['all']} cores, {facts['memory_gb']} GB, Python {facts['python']}."
    )
    parts = [
        _BEGIN,
        f"{_summary(kept)}.",
        *(f"**Not good**: {complaint}." for complaint in kept["complaints"]),
        about,
        *(table.markdown() for table in tables(kept)),
        f"![Soak]({PLOT})",
        _END,
    ]
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    old = page.read_text()
    if not pattern.search(old):
        raise LookupError(f"{page} has no marks for the soak's figures")
    page.write_text(pattern.sub(lambda _: "\n\n".join(parts), old))
    return [page, drawing]
