"""JSON as senders must write it: what RFC 8259 does not know, or leaves to the reader, is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn


def strict_decoder(parse_float: Callable[[str], Any]) -> json.JSONDecoder:
    """A decoder of the stdlib that takes no NaN or infinity, and no object with the same key twice.

    Integers keep every digit; lone surrogates pass, and are for the caller to look for.

    Args:
        parse_float: makes a value of every other number's text; ValueError or ArithmeticError refuses it.
    """
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=parse_float)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("an object has the same key twice")
    return unique


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
