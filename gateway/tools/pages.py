"""Rows as the JSON of a result: whole rows only, and no more bytes than allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from gateway.config.units import format_size
from gateway.database.engine import Table

_BATCH: Final = 64
"""Rows written at once: what lies beyond the limit in memory is never more than these."""

_PLAIN: Final = frozenset({str, bool, type(None)})
"""What JSON has just as it is."""

Convert = Callable[[Any], Any]
"""Makes of a database value what orjson takes."""


class Page(NamedTuple):
    """The structured content of a result.

    Attributes:
        encoded: compact JSON.
        row_count: rows in it.
        is_cut: whether rows were left out because of their size.
    """

    encoded: bytes
    row_count: int
    is_cut: bool


def encode(table: Table, names: Sequence[str], convert: Convert, max_bytes: int) -> Page:
    """Write as many rows, from the first on, as fit into `max_bytes`; `names` are of the columns.

    Raises:
        ValueError, TypeError, RecursionError: JSON cannot carry one of them.
    """
    content: dict[str, Any] = {"rows": [], "row_count": len(table.rows), "truncated": table.is_truncated}
    if table.affected is not None:
        content["affected_rows"] = table.affected
    if len(table.rows) <= _BATCH:
        content["rows"] = _objects(names, table.rows, convert)
        encoded = orjson.dumps(content)
        if len(encoded) <= max_bytes:
            return Page(encoded, len(table.rows), is_cut=False)
        content["rows"] = []
    # Of the two, "false" is the longer word.
    room = max_bytes - len(orjson.dumps(content | {"truncated": False}))
    rows, count = _fill(names, table.rows, convert, room)
    content |= {"row_count": count, "truncated": table.is_truncated or count < len(table.rows)}
    head, brackets, tail = orjson.dumps(content).partition(b"[]")
    return Page(b"".join((head, brackets[:1], rows, brackets[1:], tail)), count, is_cut=count < len(table.rows))


def _objects(names: Sequence[str], rows: Sequence[Sequence[Any]], convert: Convert) -> list[dict[str, Any]]:
    """Rows as JSON objects."""
    return [
        dict(zip(names, [value if type(value) in _PLAIN else convert(value) for value in row], strict=True))
        for row in rows
    ]


def _fill(names: Sequence[str], rows: Sequence[Sequence[Any]], convert: Convert, room: int) -> tuple[bytes, int]:
    """The items of the array, with the commas between them, and how many they are."""
    pieces: list[bytes] = []
    count, size = 0, _BATCH
    while count < len(rows):
        batch = _objects(names, rows[count : count + size], convert)
        piece = orjson.dumps(batch)[1:-1]
        needed = len(piece) + bool(pieces)
        if needed <= room:
            pieces.append(piece)
            room -= needed
            count += len(batch)
        elif size > 1:
            size = 1
        else:
            break
    return b",".join(pieces), count


def narrowing(shown: int, parameters: tuple[str, ...], limit: int | None) -> str:
    """What the model may do about rows that were left out; the limit of bytes where that was the reason."""
    many = "row is" if shown == 1 else f"{shown} rows are"
    because = "" if limit is None else f", since a result may have at most {format_size(limit)}"
    start = f"Only the first {many} shown{because}; there are more."
    if not parameters:
        return f"{start} This tool takes no arguments to narrow it; look for a tool that filters or aggregates."
    return f"{start} Narrow the query with: {', '.join(parameters)}; or look for a tool that aggregates."
