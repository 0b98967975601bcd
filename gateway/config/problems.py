"""Mistakes in a configuration: each with its place, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import GatewayError

KeyPath = tuple[str | int, ...]
"""A key as a path from the top: ("tools", "customer_by_id", "max_rows")."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written; lines count from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A contradiction: the key to change, and the other keys that take part in it."""

    path: KeyPath
    message: str
    involves: tuple[KeyPath, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, which key, and what was expected."""

    path: KeyPath
    message: str
    place: Place | None = None

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        key = ".".join(str(part) for part in self.path)
        return f"{where}{key}: {self.message}" if key else f"{where}{self.message}"


class ConfigError(GatewayError):
    """The configuration cannot be used; lists every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
