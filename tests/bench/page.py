"""`docs/performance.md` and its plots, from the results kept in `.cache/bench`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench import svg
from tests.bench.figures import Figure, Table

_ABOUT: Final[Mapping[str, str]] = {
    "call": "One row by its number, from PostgreSQL, for a caller with a verified token. Defaults as shipped, but for "
    "the quota. `bare` is a handler of ten lines that checks nothing and logs nothing.",
    "stages": "The same call, sampled while it runs: the shares add up to the whole.",
    "peers": "The same statement, data and tokens. A stack that could not be measured here is named below the table.",
    "processes": "`server.reuse_port` lets the system spread connections over several processes; a peer that uses "
    "several cores by itself stands beside them.",
    "telemetry": "What metrics and traces add to a call: at most 30 microseconds of CPU with every tenth call traced.",
    "start": "A pod that starts quickly is one that can be replaced without being missed.",
    "million": "Resident memory must end where it was once everything had been used for the first time.",
    "added": "What an agent waits for longer because the gateway stands between, at a rate that leaves room.",
    "paper": "The workload of the paper that the architecture comes from. Its figures were measured on its authors' "
    "deployment, with network in between: compare the ratios, not the milliseconds.",
    "scale": "Costs must stay flat as things grow, or grow in a straight line with what a call carries.",
    "ceiling": "How far one process on one core goes before the 95th percentile leaves 180 ms, or a call fails.",
}
_INTRODUCTION: Final = """\
# Performance

Written by `make bench ARGS="--write"`; do not edit. Measure on your own machine: `make bench`, or one part of it, such
as `make bench BENCH=call`. Results are also kept as JSON in `.cache/bench`.

## How to read this page

- A figure is the median of several rounds, with the least and the most in brackets. In each round every contender has
  its turn, so that whatever slows the machine slows all of them.
- Ratios come first, because they carry over to other machines; they are taken round by round. Microseconds do not.
- CPU per call is user and system time of the server's process, children included, divided by the calls it answered.
  It is the figure to plan with: a core gives a million microseconds a second.
- The server has one core to itself; PostgreSQL, the identity provider and the load generator share the others.
- Calls a second and latency of `call` and `peers` are those of 16 connections that ask as fast as they can. Latency at
  a fixed rate (`paper`, `ceiling`) counts from the moment a request was due, not from when it could be sent.
- `load_before` is the machine's load when a run began. Where it was not idle, CPU per call still holds, while rates and
  latencies tell of the neighbours.
- Every answer is checked while it is measured: one that is wrong ends the run.
- PostgreSQL speaks TLS 1.3 and SCRAM-SHA-256; tokens are signed with RS256.
"""


def write(results: Path, docs: Path, order: Sequence[str]) -> list[Path]:
    """Write the page and its plots; returns what was written.

    Args:
        results: where runs keep their JSON.
        docs: the folder of the documentation.
        order: the benches as the page shows them; those without results are left out.
    """
    records = [json.loads(path.read_text()) for name in order if (path := results / f"{name}.json").exists()]
    plots = docs / "performance"
    plots.mkdir(parents=True, exist_ok=True)
    written, parts = [], [_INTRODUCTION, _machine(records)]
    for record in records:
        parts.append(f"## {record['bench']}\n\n{_ABOUT[record['bench']]}\n")
        for found in record["tables"]:
            table = _read(found)
            parts.append(table.markdown() + "\n")
            if drawing := _drawing(record["bench"], table):
                path = plots / f"{record['bench']}-{_slug(table.title)}.svg"
                path.write_text(drawing)
                written.append(path)
                parts.append(f"![{table.title}](performance/{path.name})\n")
    page = docs / "performance.md"
    page.write_text("\n".join(parts))
    return [page, *written]


def _machine(records: Sequence[Mapping[str, Any]]) -> str:
    """The machines of the runs; one when all were made on one."""
    lines = ["## The machine", "", "| | |", "|---|---|"]
    seen: dict[str, list[str]] = {}
    for record in records:
        for name, value in record["machine"].items():
            text = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)
            seen.setdefault(name, []).append(text)
    lines += [f"| {name} | {'; '.join(dict.fromkeys(values))} |" for name, values in seen.items()]
    return "\n".join([*lines, ""])


def _read(found: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(_cell(cell) for cell in row) for row in found["rows"])
    return Table(found["title"], tuple(found["columns"]), rows, tuple(found["notes"]))


def _cell(cell: Any) -> Any:
    return Figure(cell["min"], cell["median"], cell["max"]) if isinstance(cell, dict) else cell


def _drawing(bench: str, table: Table) -> str | None:
    """Bars of what a call costs, or the curve of how it grows; nothing for tables that show neither."""
    column = next((name for name in ("CPU us/call", "ns/look-up") if name in table.columns), None)
    if column is None or bench not in ("call", "peers", "stages", "scale"):
        return None
    index = table.columns.index(column)
    figures = [(str(row[0]), _figure(row[index])) for row in table.rows]
    if bench == "scale":
        points = [(float(name.replace(",", "")), figure) for name, figure in figures]
        return svg.curve(table.title, table.columns[0], column, points)
    return svg.bars(f"{table.title}: {column}", "us", figures)


def _figure(cell: Any) -> Figure:
    return cell if isinstance(cell, Figure) else Figure(cell, cell, cell)


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
