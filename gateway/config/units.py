"""Durations and sizes as people write them: always a number with its unit."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_BYTES: Final = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_DURATION: Final = re.compile(r"([0-9]{1,11}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,9})(B|KiB|MiB|GiB)", re.ASCII)
_LONGEST: Final = 365 * 86400.0

DURATION_PATTERN: Final = f"^{_DURATION.pattern}$"
"""A duration as JSON Schema sees it."""
SIZE_PATTERN: Final = f"^{_SIZE.pattern}$"
"""A size as JSON Schema sees it."""


def parse_duration(value: Any) -> float:
    """Seconds from "500ms", "30s", "5m", "2h", "7d"; at most 365 days.

    Raises:
        ValueError: it is not text of that shape, or longer.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        # Divided, not multiplied by 0.001, so that 5ms is the float nearest to 0.005.
        seconds = float(match[1]) / 1000 if match[2] == "ms" else float(match[1]) * _SECONDS[match[2]]
        if seconds <= _LONGEST:
            return seconds
        raise ValueError("expected a duration of at most 365d")
    raise ValueError("expected a duration with its unit, such as 500ms, 30s or 5m")


def parse_size(value: Any) -> int:
    """Bytes from "512B", "64KiB", "1MiB", "2GiB".

    Raises:
        ValueError: it is not text of that shape.
    """
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _BYTES[match[2]]
    raise ValueError("expected a size with its unit, such as 64KiB or 1MiB")


def format_duration(seconds: float) -> str:
    """Write whole milliseconds in the largest unit that needs no fraction; the inverse of `parse_duration`."""
    if seconds:
        for unit, length in _SECONDS.items():
            if seconds % length == 0:
                return f"{seconds / length:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"


def format_size(size: int) -> str:
    """Write bytes in the largest unit that needs no fraction; the inverse of `parse_size`."""
    for unit, length in _BYTES.items():
        if size and size % length == 0:
            return f"{size // length}{unit}"
    return "0B"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "30s", "5m"]}),
]
"""Seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["64KiB", "1MiB"]}),
]
"""Bytes."""
