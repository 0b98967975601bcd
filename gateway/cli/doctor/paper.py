"""The report as a page for people."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TextIO

from gateway.cli.doctor.report import Outcome, Step, Target
from gateway.cli.words import counted

_WORDS: Final = {
    Outcome.OK: ("ok", "32"),
    Outcome.WARNING: ("warn", "33"),
    Outcome.SKIPPED: ("-", "2"),
    Outcome.FAILED: ("FAIL", "31;1"),
    Outcome.TIMED_OUT: ("TIME", "31;1"),
}
_WIDTH: Final = 100
_INDENT: Final = " " * 24


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour: on a terminal that can, unless NO_COLOR says no (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def page(targets: Sequence[Target], *, in_colour: bool) -> Iterator[str]:
    """The lines of the page."""
    for target in targets:
        name = "" if target.name == target.kind else f" {target.name}"
        yield _painted(f"{target.kind}{name}", "1", in_colour) + f"  {target.where}"
        for step in target.steps:
            yield from _lines(step, in_colour)
        yield ""
    yield summary(targets)


def _lines(step: Step, in_colour: bool) -> Iterator[str]:
    word, colour = _WORDS[step.outcome]
    time = "" if step.seconds is None or step.outcome.is_bad else f" ({step.seconds * 1000:.0f} ms)"
    yield f"  {_painted(word.ljust(5), colour, in_colour)} {step.name.ljust(14)}  {step.text}{time}"
    if step.advice:
        yield from textwrap.wrap(f"-> {step.advice}", _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT + "   ")


def _painted(text: str, colour: str, in_colour: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if in_colour else text


def summary(targets: Sequence[Target]) -> str:
    """How many are well, in one line."""
    bad = [target.name for target in targets if not target.is_well]
    if bad:
        return f"{len(bad)} of {counted(len(targets), 'target')} cannot be used: {', '.join(bad)}."
    warned = sum(step.outcome is Outcome.WARNING for target in targets for step in target.steps)
    warnings = f", {counted(warned, 'warning')}" if warned else ""
    return f"OK: {counted(len(targets), 'target')}{warnings}."
