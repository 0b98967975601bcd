"""A quick yes: most calls are plainly right, and then nothing slower needs to look at them.

What the check does not understand, or does not like, is judged by the whole
validator, which alone refuses and explains. So a yes must be right, and a no
means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from gateway.tools.formats import FORMATS
from gateway.tools.validation import MAX_PATTERN_INPUT, compile_pattern, exact, is_modest, is_unicode

Check = Callable[[Any], bool]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, Decimal),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "x-mcp-header"}
)
_WHOLE: Final = frozenset({"$schema", "type", "title", "description", "properties", "required", "additionalProperties"})
_BITS: Final = 64


def quick_check(schema: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool] | None:
    """A check that says whether arguments are plainly valid; None where the schema is beyond it.

    Args:
        schema: a tool's published input schema.
    """
    properties = exact(schema.get("properties", {}))
    if not schema.keys() <= _WHOLE or schema.get("additionalProperties") is not False:
        return None
    checks = {name: _compile(each) for name, each in properties.items()}
    if None in checks.values():
        return None
    required = tuple(schema.get("required", ()))

    def is_plain(arguments: Mapping[str, Any]) -> bool:
        for name in required:
            if name not in arguments:
                return False
        for name, value in arguments.items():
            check = checks.get(name)
            if check is None or not check(value):
                return False
        return True

    return is_plain


def _compile(schema: Any) -> Check | None:
    """The check of one parameter; None where a keyword is beyond it."""
    if not isinstance(schema, dict):
        return None
    kinds = schema.get("type")
    names: list[str] = kinds if isinstance(kinds, list) else [str(kinds)]
    if not _TYPES.keys() >= set(names):
        return None
    types = frozenset(kind for name in names for kind in _TYPES[name])
    made = tuple(_rules(schema))
    rules = tuple(rule for rule in made if rule is not None)
    if len(rules) < len(made):
        return None

    def check(value: Any) -> bool:
        # By exact type: a boolean is no integer, and 1.0 for an integer is left to the whole validator.
        if type(value) not in types or not _is_modest(value):
            return False
        for rule in rules:  # noqa: SIM110 - a generator would cost more than most rules
            if not rule(value):
                return False
        return True

    return check


def _is_modest(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return value.isascii() or is_unicode(value)
    if kind is int:
        return bool(value.bit_length() <= _BITS)
    return kind is not Decimal or is_modest(value)


def _rules(schema: dict[str, Any]) -> Iterator[Check | None]:
    for word, wanted in schema.items():
        if word != "type" and word not in _ANNOTATIONS:
            make = _RULES.get(word)
            yield make(wanted) if make is not None else None


def _number(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Check]:
    """A bound of numbers; other values pass, as in JSON Schema."""

    def make(limit: Any) -> Check:
        return lambda value: isinstance(value, bool) or not isinstance(value, int | Decimal) or compare(value, limit)

    return make


def _text(test: Callable[[str, Any], bool]) -> Callable[[Any], Check]:
    """A rule of strings; other values pass."""

    def make(wanted: Any) -> Check:
        return lambda value: not isinstance(value, str) or test(value, wanted)

    return make


def _pattern(pattern: str) -> Check:
    search = compile_pattern(pattern).search
    return lambda value: not isinstance(value, str) or (len(value) <= MAX_PATTERN_INPUT and search(value) is not None)


def _enum(wanted: list[Any]) -> Check | None:
    if not all(isinstance(each, str) for each in wanted):
        return None
    return frozenset(wanted).__contains__


def _format(name: str) -> Check | None:
    is_valid = FORMATS[name][0] if name in FORMATS else None
    return None if is_valid is None else _text(lambda value, _: is_valid(value))(None)


_RULES: Final[Mapping[str, Callable[[Any], Check | None]]] = {
    "minimum": _number(lambda value, limit: bool(value >= limit)),
    "maximum": _number(lambda value, limit: bool(value <= limit)),
    "exclusiveMinimum": _number(lambda value, limit: bool(value > limit)),
    "exclusiveMaximum": _number(lambda value, limit: bool(value < limit)),
    "minLength": _text(lambda value, limit: len(value) >= limit),
    "maxLength": _text(lambda value, limit: len(value) <= limit),
    "pattern": _pattern,
    "enum": _enum,
    "format": _format,
}
