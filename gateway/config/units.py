"""Durations and sizes as people write them: always a number with its unit."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)", re.ASCII)


def parse_duration(value: Any) -> float:
    """Seconds from "500ms", "30s", "5m", "2h", "7d".

    Raises:
        ValueError: it is not text of that shape.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2]]
    raise ValueError("expected a duration with its unit, such as 500ms, 30s or 5m")


def parse_size(value: Any) -> int:
    """Bytes from "512B", "64KiB", "1MiB", "2GiB".

    Raises:
        ValueError: it is not text of that shape.
    """
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _BYTES[match[2]]
    raise ValueError("expected a size with its unit, such as 64KiB or 1MiB")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["500ms", "30s", "5m"]}),
]
"""Seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64KiB", "1MiB"]}),
]
"""Bytes."""
