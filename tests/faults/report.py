"""What the scenarios showed, as the table that `make faults` prints and `docs/explanation/reliability.md` keeps."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
_BEGIN: Final = "<!-- written by make faults: begin -->"
_END: Final = "<!-- written by make faults: end -->"
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


def write(rows: Sequence[Row], page: Path = PAGE) -> None:
    """Put the table into the page, in the place of the one that was there."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, f"{page} has no place for the table"
    assert end, f"{page} has no place for the table"
    page.write_text(f"{before}{_BEGIN}\n{machine()}\n\n{markdown(rows)}\n{_END}{after}")
