"""JSON Schema 2020-12 for arguments: exact numbers, asserted formats, bounded work, no network.

Arguments come with `int` and `Decimal` numbers, so that nothing is rounded
before it is judged; `exact` brings the numbers of a schema to the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from gateway.tools.formats import FORMATS

MAX_PATTERN_INPUT: Final = 10_000
"""Characters of a string that a pattern is tried on; longer ones are refused."""
MAX_DEPTH: Final = 32
"""How deep arguments may nest."""
MAX_VALUES: Final = 10_000
"""How many values one call's arguments may hold, counting nested ones."""
MAX_DIGITS: Final = 1_000
"""Digits of a number, and the largest exponent either way."""
_EXACT_FLOATS: Final = 2**53


def is_number(value: Any) -> bool:
    """Whether JSON calls it a number: finite, and not a boolean."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return True
    return isinstance(value, Decimal) and value.is_finite()


def is_integer(value: Any) -> bool:
    """Whether JSON Schema calls it an integer: 1.0 is one, true is not."""
    return is_number(value) and (isinstance(value, int) or value == value.to_integral_value())


def is_rounded(value: Any) -> bool:
    """Whether a value holds a float that may stand for several integers: what was written is no longer known."""
    if isinstance(value, float):
        return not abs(value) < _EXACT_FLOATS
    if isinstance(value, Mapping):
        return any(map(is_rounded, value.values()))
    return isinstance(value, list) and any(map(is_rounded, value))


def exact(schema: Any) -> Any:
    """A copy of a JSON value with every float as the Decimal that it was written as."""
    if isinstance(schema, float):
        return Decimal(repr(schema))
    if isinstance(schema, dict):
        return {key: exact(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [exact(value) for value in schema]
    return schema


def excess(value: Any) -> str:
    """Which bound a value breaks, in words for the caller; "" where none."""
    waiting = [(value, 1)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            return f"holds more than {MAX_VALUES} values"
        if depth > MAX_DEPTH:
            return f"nests deeper than {MAX_DEPTH} levels"
        if isinstance(item, Decimal) and not is_modest(item):
            return f"holds a number of more than {MAX_DIGITS} digits"
        if isinstance(item, int) and item.bit_length() > MAX_DIGITS * 10 // 3:
            return f"holds a number of more than {MAX_DIGITS} digits"
        if isinstance(item, str) and not is_unicode(item):
            return "holds text that is not valid Unicode"
        if isinstance(item, dict):
            waiting += [(child, depth + 1) for pair in item.items() for child in pair]
        elif isinstance(item, list):
            waiting += [(child, depth + 1) for child in item]
    return ""


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""A JSON Schema pattern (ECMA-262) for Python: `$` is the very end, `\d` and `\w` are ASCII.

    Raises:
        re.error: it is not a regular expression.
    """
    pieces = re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", pattern, re.DOTALL)
    return re.compile("".join(r"\Z" if piece == "$" else piece for piece in pieces), re.ASCII)


def validator(schema: Any) -> Draft202012Validator:
    """A validator of one schema, made once and used for every call; never fetches a reference."""
    made: Draft202012Validator = _Validator(exact(schema), registry=Registry())
    return made


def is_modest(number: Decimal) -> bool:
    """Whether a number has no more digits, and no larger exponent, than is reasonable."""
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and abs(exponent) <= MAX_DIGITS and len(number.as_tuple().digits) <= MAX_DIGITS


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and (len(value) > MAX_PATTERN_INPUT or not compile_pattern(pattern).search(value)):
        yield ValidationError("pattern")


def _format(_: Any, name: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and name in FORMATS and not FORMATS[name][0](value):
        yield ValidationError("format")


def _multiple_of(_: Any, step: int | Decimal, value: Any, __: Any) -> Iterator[ValidationError]:
    if is_number(value) and (Fraction(value) / Fraction(step)).denominator != 1:
        yield ValidationError("multipleOf")


def _unique_items(_: Any, is_wanted: bool, value: Any, __: Any) -> Iterator[ValidationError]:
    if is_wanted and isinstance(value, list) and len({_frozen(item) for item in value}) < len(value):
        yield ValidationError("uniqueItems")


def _frozen(value: Any) -> Any:
    """A hashable twin of a JSON value: equal exactly where JSON Schema calls the values equal."""
    if isinstance(value, dict):
        return "object", frozenset((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return "array", tuple(_frozen(item) for item in value)
    return "boolean" if isinstance(value, bool) else "", value


_KEYWORDS: Final[dict[str, Callable[..., Iterator[ValidationError]]]] = {
    "pattern": _pattern,
    "format": _format,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
}
_TYPES: Final = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {"integer": lambda _, value: is_integer(value), "number": lambda _, value: is_number(value)}
)
_Validator: Final[Any] = extend(Draft202012Validator, _KEYWORDS, type_checker=_TYPES)  # type: ignore[no-untyped-call]
