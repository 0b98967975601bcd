"""Rounds in turn: every contender runs in each round, so that all see the same machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.contenders import Entry, Round
from tests.bench.figures import Figure, Table, ratio


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a bench takes.

    Attributes:
        rounds: how often every contender has its turn.
        seconds: the length of one turn.
    """

    rounds: int = 5
    seconds: float = 2.0


def say(text: str) -> None:
    """Progress, on standard error, so that the tables can be kept apart."""
    print(text, file=sys.stderr, flush=True)


def run(entries: Sequence[Entry], pace: Pace, others: Sequence[Callable[[], None]] = ()) -> None:
    """A turn of each that does not count, then the rounds.

    Args:
        entries: measured by load.
        pace: how often and how long.
        others: what else has its turn in each round.
    """
    for entry in entries:
        entry.measure(min(1.0, pace.seconds))
    for count in range(1, pace.rounds + 1):
        for entry in entries:
            entry.rounds.append(entry.measure(pace.seconds))
        for other in others:
            other()
        shown = ", ".join(f"{entry.name} {entry.rounds[-1].cpu_us:.0f}" for entry in entries)
        say(f"  round {count} of {pace.rounds}, CPU us/call: {shown}")


def table(title: str, entries: Sequence[Entry], base: Entry, notes: tuple[str, ...] = ()) -> Table:
    """Ratios of CPU and rate to the base, then the figures themselves."""
    columns = (
        *("contender", f"CPU / {base.name}", f"calls/s / {base.name}", "CPU us/call", "calls/s"),
        *("p50 ms", "p95 ms", "p99 ms", "RSS MB"),
    )
    rows = tuple(
        (
            entry.name,
            *(ratio(values(entry, by), values(base, by)) for by in (cpu, rate_of)),
            *(Figure.of(values(entry, by)) for by in (cpu, rate_of, _p50, _p95, _p99, _memory)),
        )
        for entry in entries
    )
    busiest = max(turn.load.generator for entry in entries for turn in entry.rounds)
    load = f"wrk used at most {busiest:.0%} of its core." + (
        " IT WAS THE BOTTLENECK: rates are too low." if busiest > 0.9 else ""
    )
    return Table(title, columns, rows, (*notes, load))


def values(entry: Entry, by: Callable[[Round], float]) -> list[float]:
    """One quantity of each round."""
    return [by(each) for each in entry.rounds]


def cpu(each: Round) -> float:
    """Microseconds for each call."""
    return each.cpu_us


def rate_of(each: Round) -> float:
    """Calls a second."""
    return each.rate


def _p50(each: Round) -> float:
    return each.load.p50


def _p95(each: Round) -> float:
    return each.load.p95


def _p99(each: Round) -> float:
    return each.load.p99


def _memory(each: Round) -> float:
    return each.memory_mb
