"""Words for people that several commands print."""

from __future__ import annotations


def counted(number: int | str, noun: str) -> str:
    """A number with its noun: "1 row", "2 rows"."""
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"
