"""JSON as senders must write it: what RFC 8259 does not know, or leaves to the reader, is refused.

How deep a document may nest is a number of this file: parsers give up at depths of their own,
the stdlib's at another one with each version of Python.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 64
"""How deep a document from outside may nest: a request, a token, an identity provider's answer."""


def strict_decoder(parse_float: Callable[[str], Any]) -> json.JSONDecoder:
    """A decoder of the stdlib that takes no NaN or infinity, and no object with the same key twice.

    Integers keep every digit; lone surrogates pass, and are for the caller to look for.

    Args:
        parse_float: makes a value of every other number's text; ValueError or ArithmeticError refuses it.
    """
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=parse_float)


def nests_too_deep(document: Any, written: bytes) -> bool:
    """Whether a document has more than `MAX_DEPTH` levels, looked at level by level.

    Args:
        document: as either parser gives it.
        written: what it was read from. Few brackets cannot nest deep, and counting them costs next to nothing.
    """
    if written.count(b"{") + written.count(b"[") <= MAX_DEPTH:
        return False
    level: list[Any] = [[document]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("an object has the same key twice")
    return unique


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
