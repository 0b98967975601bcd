"""Regular expressions over claims that cannot keep the event loop busy.

Python's matcher tries one way to match after the other. How many there can be
is bounded here, at load, from what is written: a pattern with too many is refused.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.tools.validation import compile_pattern

MAX_TEXT: Final = 256
"""Characters of a claim that a pattern is tried on; longer ones never match."""
MAX_WAYS: Final = 200_000
"""Ways to match that one pattern may offer: `*` and `+` twice, with little beside."""

_PIECES: Final = re.compile(
    r"""
    \\. | \[\^?\]?(?:\\.|[^\]\\])*\]                # an escape, a class
    | \((?:\?(?:[:=!>]|<[=!]|P<\w+>))?              # a group begins
    | (?P<repeat>[*+?]|\{\d+\}|\{\d*,\d*\})[?+]?    # a repeat, lazy or possessive
    | .                                             # and each other character for itself, | and ) too
    """,
    re.VERBOSE | re.DOTALL,
)


class _Group:
    """An open group: the ways of its finished branches, of this branch, and of this branch's last item."""

    def __init__(self) -> None:
        self.finished, self.branch, self.last = 0, 1, 1

    def add(self, ways: int) -> None:
        self.branch, self.last = _capped(self.branch * self.last), ways

    def end_branch(self) -> None:
        self.finished, self.branch, self.last = self.ways(), 1, 1

    def ways(self) -> int:
        return _capped(self.finished + self.branch * self.last)


def compile_whole(pattern: str) -> re.Pattern[str]:
    """A pattern for the whole of a text.

    Raises:
        re.error: it is not a regular expression, or one that may take long.
    """
    compiled = compile_pattern(pattern)
    if _ways(pattern) > MAX_WAYS:
        raise re.error("it may take long; use * and + at most twice, and repeat nothing that has a choice in it")
    return compiled


def _ways(pattern: str) -> int:
    """At least as many ways as there are to match a valid pattern against `MAX_TEXT` characters."""
    groups = [_Group()]
    before = ""
    for piece in _PIECES.finditer(pattern):
        text = piece.group()
        if (before == "(" and text.startswith("?")) or re.fullmatch(r"\\[1-9]", text):
            raise re.error("flags, conditions and references to groups cannot be used here")
        if text[0] == "(":
            groups.append(_Group())
        elif text == ")":
            ways = groups.pop().ways()
            groups[-1].add(ways)
        elif text == "|":
            groups[-1].end_branch()
        elif piece["repeat"]:
            fewest, most = _rounds(piece["repeat"])
            groups[-1].last = _capped((most - fewest + 1) * groups[-1].last ** most)
        else:
            groups[-1].add(1)
        before = text
    return groups[0].ways()


def _rounds(repeat: str) -> tuple[int, int]:
    """The fewest and the most rounds of a repeat that differ on `MAX_TEXT` characters."""
    if repeat in ("*", "+", "?"):
        return {"*": (0, MAX_TEXT), "+": (1, MAX_TEXT), "?": (0, 1)}[repeat]
    fewest, comma, most = repeat[1:-1].partition(",")
    low = min(int(fewest or 0), MAX_TEXT)
    return low, min(int(most), MAX_TEXT) if most else MAX_TEXT if comma else low


def _capped(ways: int) -> int:
    return min(ways, MAX_WAYS + 1)
