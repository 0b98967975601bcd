"""Finding records in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.telemetry.audit.reading import entry, lines
from gateway.telemetry.audit.verify import in_order


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are looked for; all conditions hold.

    Attributes:
        fields: for each field its value as text.
        arguments: for each argument the values that a record may hold: in clear or hashed.
        since: only this time or later (RFC 3339, UTC, or its beginning); "" for all.
        until: only before this time; "" for all.
    """

    fields: Mapping[str, str]
    arguments: Mapping[str, frozenset[str]]
    since: str = ""
    until: str = ""

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is one of them."""
        time = str(record["time"])
        if (self.since and time < self.since) or (self.until and time >= self.until):
            return False
        if any(_text(record.get(name)) != value for name, value in self.fields.items()):
            return False
        arguments = record.get("arguments")
        given = arguments if isinstance(arguments, dict) else {}
        return all(_text(given.get(name)) in values for name, values in self.arguments.items())


def search(files: Sequence[Path], wanted: Wanted) -> Iterator[bytes]:
    """The records of a log that are wanted, as they stand, oldest file first.

    Raises:
        Unreadable: a file cannot be read.
    """
    for file in in_order(files):
        for line in lines(file):
            found = entry(line.content)
            if found is not None and not found.is_head and wanted.fits(found.fields):
                yield line.content


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
