"""What JSON Schema's metaschema says of a tool's input schema (JSON Schema Core 2020-12, section 8.1)."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Final

from jsonschema import Draft202012Validator

MOST_REMEMBERED: Final = 65_536
_MAX_TEXT: Final = 200

_sound: set[bytes] = set()
"""Digests of schemas in which nothing was wrong: finding that takes 2 ms, for each tool.

A load makes every tool twice, to find mistakes and then to serve it, and a reload makes those that stayed again.
"""


def mistakes(schema: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """The path of each mistake, and what is wrong.

    Args:
        schema: of values that JSON has.
    """
    digest = sha256(json.dumps(schema).encode()).digest()
    if digest in _sound:
        return []
    errors = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    found = [(tuple(error.absolute_path), _shortened(error.message)) for error in errors]
    if not found:
        if len(_sound) >= MOST_REMEMBERED:
            _sound.clear()
        _sound.add(digest)
    return found


def _shortened(message: str) -> str:
    return message if len(message) <= _MAX_TEXT else f"{message[: _MAX_TEXT - 3]}..."
