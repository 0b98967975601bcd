"""What the scenarios showed, as the table that `make faults` prints and `docs/explanation/reliability.md` keeps."""

from __future__ import annotations

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
_BEGIN: Final = "<!-- written by make faults: begin -->"
_END: Final = "<!-- written by make faults: end -->"
KEPT: Final = Path(__file__).parents[2] / ".cache" / "faults"
GROUPS: Final = (
    *("databases", "network", "overload", "identity", "certificates"),
    *("companions", "clients", "process", "configuration"),
)
"""As the page shows them."""
COLUMNS: Final = (
    "what was done",
    "sent",
    "answered",
    "failed, by code",
    "hidden retries",
    "wrong answers",
    "writes lost or doubled",
    "longest stall",
    "time to heal",
    "connections",
    "memory, MB",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario.

    Attributes:
        group: what kind of fault; the file that it is in.
        what: was done.
        sent: calls, with everything that was not answered.
        answered: rightly.
        failed: calls by code.
        hidden: attempts that failed and were made again unseen, by code.
        wrong: answers.
        bad_writes: lost, doubled, or made although the caller was told that nothing was changed.
        stall: seconds that the slowest call took, or None where there was no load.
        heal: seconds from the end of the fault until all callers were well, or None.
        connections: before and after, over all sources.
        memory: resident MB before and after.
    """

    group: str
    what: str
    sent: int
    answered: int
    failed: Counter[str]
    hidden: Counter[str]
    wrong: int
    bad_writes: int
    stall: float | None
    heal: float | None
    connections: tuple[int, int]
    memory: tuple[float, float]

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        return (
            self.what,
            str(self.sent),
            str(self.answered),
            _counts(self.failed),
            _counts(self.hidden),
            str(self.wrong),
            str(self.bad_writes),
            _seconds(self.stall),
            _seconds(self.heal),
            "{} → {}".format(*self.connections),
            "{:.0f} → {:.0f}".format(*self.memory),
        )


ROWS: Final[list[Row]] = []
"""Of this process' run, in order."""


def group() -> str:
    """Of the scenario that runs now."""
    return os.environ["PYTEST_CURRENT_TEST"].partition("::")[0].rpartition("test_")[2].removesuffix(".py")


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def text(rows: Sequence[Row]) -> str:
    """For a terminal: a block of lines for each scenario would hide the comparison, so one line each."""
    table = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[index]) for line in table) for index in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join(lines)


def markdown(rows: Iterable[Row]) -> str:
    """For the page."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row.cells())} |" for row in rows)])


def machine() -> str:
    """When and where this was seen, in one line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    facts = [
        f"{datetime.now(UTC):%Y-%m-%d}",
        cpu[1] if cpu else platform.machine(),
        f"{len(os.sched_getaffinity(0))} cores",
        f"{int(memory[1]) / 1e6:.0f} GB" if memory else "",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(filter(None, facts))


def keep(rows: Sequence[Row], folder: Path = KEPT) -> None:
    """Keep the rows of each group that was run, instead of what was kept of it before."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(row.group for row in rows):
        found = [{each.name: getattr(row, each.name) for each in fields(row)} for row in rows if row.group == name]
        (folder / f"{name}.json").write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n")


def write(page: Path = PAGE, folder: Path = KEPT) -> None:
    """Put the tables that were kept into the page, in the place of those that were there."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the tables")
    parts = []
    for name in GROUPS:
        path = folder / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text())
            parts += [f"### {name.capitalize()}", kept["machine"], markdown(_row(told) for told in kept["rows"])]
    page.write_text("\n\n".join([before + begin, *parts, end + after]))


def _row(told: Mapping[str, Any]) -> Row:
    counts = {name: Counter(told[name]) for name in ("failed", "hidden")}
    pairs = {name: tuple(told[name]) for name in ("connections", "memory")}
    return Row(**{**told, **counts, **pairs})
