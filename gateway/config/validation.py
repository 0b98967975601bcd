"""Turns plain data into settings, and pydantic's findings into sentences of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.document import plain_value
from gateway.config.models import GatewaySettings
from gateway.config.problems import KeyPath
from gateway.config.references import is_whole
from gateway.config.shape import engines, is_secret, keys_at
from gateway.config.units import format_duration, format_size

_SHOWN: Final = 40
_NOTHING: Final = object()
_FILLING: Final = "missing"

Context = Mapping[str, Any]

_EXPECTED: Final[Mapping[str, Callable[[Context], str]]] = {
    "int_type": lambda _: "an integer",
    "int_from_float": lambda _: "an integer",
    "float_type": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "string_type": lambda _: "text",
    "path_type": lambda _: "a path",
    "dict_type": lambda _: "a mapping",
    "model_type": lambda _: "a mapping",
    "model_attributes_type": lambda _: "a mapping",
    "tuple_type": lambda _: "a list",
    "list_type": lambda _: "a list",
    "literal_error": lambda context: f"one of {context['expected'].replace(chr(39), '')}",
    "greater_than": lambda context: f"more than {context['gt']}",
    "greater_than_equal": lambda context: f"at least {context['ge']}",
    "less_than": lambda context: f"less than {context['lt']}",
    "less_than_equal": lambda context: f"at most {context['le']}",
    "string_too_short": lambda _: "text that is not empty",
    "too_short": lambda context: f"at least {context['min_length']} item{'s' * (context['min_length'] > 1)}",
    "too_long": lambda context: f"at most {context['max_length']} items",
    "value_error": lambda context: str(context["error"]).removeprefix("expected "),
}
"""What was expected, for each type of error that our models can raise."""

_WANTED: Final[Mapping[str, tuple[type, ...]]] = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}


class Outcome:
    """What validation found.

    Attributes:
        settings: everything that is right; what is wrong has its default or is left out.
        mistakes: each wrong key and what was expected.
    """

    def __init__(self, spoiled: Iterable[KeyPath]) -> None:
        self.settings = GatewaySettings()
        self.mistakes: list[tuple[KeyPath, str]] = []
        self._spoiled: set[KeyPath] = set()
        self._around: set[KeyPath] = set()
        for path in spoiled:
            self.spoil(path)

    def spoil(self, path: KeyPath) -> None:
        """Note that the settings do not show this key as it is written."""
        self._spoiled.add(path)
        self._around.update(path[:length] for length in range(len(path)))

    def is_spoiled(self, path: KeyPath) -> bool:
        """Whether a finding at this key may come from a mistake at, in or around it."""
        return path in self._around or any(path[:length] in self._spoiled for length in range(len(path) + 1))


def validate(data: dict[str, Any], references: Mapping[KeyPath, str], spoiled: Iterable[KeyPath]) -> Outcome:
    """Check types and bounds of everything.

    Text stays text, whatever it looks like, with one exception: a value that is
    one whole reference becomes a number or a boolean where the setting wants one.

    Args:
        data: mappings, lists and scalars; changed in place.
        references: for each key whose value refers to something, what is written there.
        spoiled: keys already reported and left out of the data.
    """
    outcome = Outcome(spoiled)
    filled: set[KeyPath] = set()
    is_reported = False
    while True:
        try:
            # JSON is the mode in which strict models take lists for tuples and text for paths.
            outcome.settings = GatewaySettings.model_validate_json(json.dumps(data))
        except ValidationError as error:
            errors = [(_key_path(data, each), each) for each in error.errors(include_url=False)]
        else:
            return outcome
        retyped = [_retype(data, path, each, references) for path, each in errors]
        if any(retyped):
            continue
        around = {path[:length] for path, _ in errors for length in range(len(path))}
        for path, each in errors:
            # A list whose items are wrong is also reported as too short: an echo.
            if not (is_reported or path in around or outcome.is_spoiled(path)):
                outcome.mistakes.append(_mistake(data, path, each, references))
        # Without what is wrong the rest can be looked at; the gaps this leaves are no mistakes.
        is_reported = True
        for path, each in errors:
            outcome.spoil(_set_aside(data, path, each, filled))


def _key_path(data: Any, error: ErrorDetails) -> KeyPath:
    """The key of an error: its location without the names of union members that pydantic adds."""
    path: list[str | int] = []
    location = error["loc"]
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        inside = _inside(data, part)
        if inside is not _NOTHING:
            path.append(part)
            data = inside
        elif is_last and error["type"] == "missing":
            path.append(part)
    return tuple(path)


def _value_at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = _inside(data, part)
    return data


def _inside(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part, _NOTHING)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return _NOTHING


def _retype(data: Any, path: KeyPath, error: ErrorDetails, references: Mapping[KeyPath, str]) -> bool:
    wanted = _WANTED.get(error["type"])
    given = _value_at(data, path)
    if wanted is None or not is_whole(references.get(path, "")) or not isinstance(given, str):
        return False
    meant = plain_value(given)
    if type(meant) not in wanted:
        return False
    _value_at(data, path[:-1])[path[-1]] = meant
    return True


def _set_aside(data: Any, path: KeyPath, error: ErrorDetails, filled: set[KeyPath]) -> KeyPath:
    """Remove what is wrong and fill what is missing; where filling did not help, remove what is around it."""
    target = path[:-1] if path in filled else path
    while isinstance(_value_at(data, target[:-1]), list):
        # Without the item the others would move to another index.
        target = target[:-1]
    parent = _value_at(data, target[:-1])
    if isinstance(parent, dict):
        if error["type"] == "missing" and target == path:
            parent[path[-1]] = _FILLING
            filled.add(path)
        else:
            parent.pop(target[-1], None)
    return target


def _mistake(data: Any, path: KeyPath, error: ErrorDetails, references: Mapping[KeyPath, str]) -> tuple[KeyPath, str]:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        engine = _value_at(data, (*path[:-1], "engine"))
        return path, "unknown key" + suggestion(path[-1], keys_at(path[:-1], engine))
    if kind == "missing":
        return path, "missing; it has no default"
    if kind == "union_tag_not_found":
        return (*path, "engine"), f"missing; expected one of {', '.join(engines())}"
    if kind == "union_tag_invalid":
        tag = (*path, "engine")
        return tag, f"expected an engine of this version, {' or '.join(engines())}" + _given(
            context["tag"], tag, references
        )
    if kind == "session_name":
        return path, f"expected {error['msg']}"
    if error["loc"][-1] == "[key]":
        return path, "expected a name of at most 64 letters, digits, _ . - that starts with a letter"
    if kind == "too_short" and is_secret(path):
        return path, "expected a secret that is not empty"
    given = _value_at(data, path)
    if isinstance(given, str):
        context = {key: _with_unit(value) for key, value in context.items()}
    expected = _EXPECTED[kind](context) if kind in _EXPECTED else error["msg"]
    is_unquoted = kind in ("string_type", "literal_error") and isinstance(given, int | float) and not is_secret(path)
    return path, f"expected {expected}{_given(given, path, references)}{'; put it in quotes' * is_unquoted}"


def _with_unit(bound: Any) -> Any:
    """A bound as it is written where the value is: of text only durations and sizes have bounds."""
    if isinstance(bound, float):
        return format_duration(bound)
    return format_size(bound) if isinstance(bound, int) else bound


def _given(value: Any, path: KeyPath, references: Mapping[KeyPath, str]) -> str:
    """What was given instead, where it is no secret and does not come from elsewhere."""
    if is_secret(path):
        return ""
    if path in references:
        return f", got what {references[path]} gives"
    return f", got {describe(value)}"


def describe(value: Any) -> str:
    """A value of the configuration in few words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {str(value)[:_SHOWN]}"
        case str():
            return f'text "{value[:_SHOWN]}{"..." * (len(value) > _SHOWN)}"'
        case list():
            return f"a list of {len(value)}"
        case _:
            return "a mapping"


def suggestion(given: str | int, known: tuple[str, ...]) -> str:
    """The nearest known name, or all of them; empty when there are none."""
    if nearest := get_close_matches(str(given), known, n=1):
        return f"; did you mean {nearest[0]}?"
    return f"; known here: {', '.join(known)}" if known else ""
