"""JSON text from Python values, number for number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any


def dumps(value: Any) -> str:
    """The value as compact JSON text; decimals and integers of any size keep every digit.

    Raises:
        ValueError: a number that JSON does not know (NaN, infinities).
        TypeError: a value that is not JSON.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("JSON has no NaN and no infinities")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{dumps(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
