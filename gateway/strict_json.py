"""JSON as senders must write it: what RFC 8259 does not know, or leaves to the reader, is refused.

How deep a document may nest is a number of this file: the stdlib's parser gives up at another depth with each
version of Python, and on the way there it holds the event loop or runs out of stack.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
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


def nests_too_deep(written: bytes) -> bool:
    """Whether JSON has more than `MAX_DEPTH` levels; asked before the stdlib's parser goes down them.

    What is no JSON may be called either, but where this says no, that parser meets no more levels before it refuses.
    """
    # Few brackets cannot nest deep, and counting them costs next to nothing.
    if written.count(b"{") + written.count(b"[") <= MAX_DEPTH:
        return False
    # Once escapes are gone, every second piece between quotes lies outside of strings.
    plain = written.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_STEPS, _NO_MARKS)
    steps = b"".join(plain.split(b'"')[::2])
    return MAX_DEPTH + 1 in accumulate(memoryview(steps).cast("b"))


_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one level down; as a signed byte, one up
_NO_MARKS: Final = bytes(set(range(256)) - set(b'[{]}"'))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("an object has the same key twice")
    return unique


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
