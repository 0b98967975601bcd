"""Words for the model: what is wrong with its arguments, and what is allowed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from jsonschema.exceptions import ValidationError

from gateway.tools.formats import FORMATS

MAX_LINES: Final = 5
"""Problems told at once."""
_MAX_SHOWN: Final = 60
_MAX_LISTED: Final = 20
_TYPES: Final = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def explain(errors: Iterable[ValidationError], sensitive: frozenset[str]) -> list[str]:
    """One line for each problem: which argument, what it got, what is allowed.

    Args:
        errors: of one validator over the arguments.
        sensitive: arguments whose values are never repeated.
    """
    lines: dict[str, None] = {}
    for error in errors:
        for line in _lines(error, sensitive):
            lines.setdefault(line)
    return list(lines)


def unknown(name: str, known: Iterable[str]) -> str:
    """The line for an argument that the tool does not have."""
    names = sorted(known)
    if close := difflib.get_close_matches(name[:_MAX_SHOWN], names, 1):
        return f"Argument {quoted(name)} is unknown; did you mean {quoted(close[0])}?"
    if not names:
        return f"Argument {quoted(name)} is unknown; this tool takes no arguments."
    return f"Argument {quoted(name)} is unknown; known are: {listed(names)}."


def bounded(lines: list[str]) -> str:
    """The first problems, and how many more there are."""
    more = len(lines) - MAX_LINES
    tail = [f"And {more} more."] if more > 0 else []
    return "\n".join([*lines[:MAX_LINES], *tail])


def got(value: Any) -> str:
    """A value as a message may repeat it: short, on one line, and no contents of containers."""
    if isinstance(value, Mapping):
        return f"an object with {_count(len(value), 'property', 'properties')}"
    if isinstance(value, list):
        return f"an array of {_count(len(value), 'item', 'items')}"
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _cut(str(value))


def quoted(text: str) -> str:
    """Text in quotes, shortened."""
    return json.dumps(text, ensure_ascii=False) if len(text) <= _MAX_SHOWN else json.dumps(_cut(text))


def listed(items: Iterable[Any]) -> str:
    """Names or values, comma-separated, not too many."""
    shown = [item if isinstance(item, str) else got(item) for item in items]
    tail = ["..."] if len(shown) > _MAX_LISTED else []
    return ", ".join([*(_cut(item) for item in shown[:_MAX_LISTED]), *tail])


def allowed(schema: Any) -> str:
    """What a schema allows, as a phrase that follows "must be"."""
    if not isinstance(schema, Mapping):
        return "absent" if schema is False else "any value"
    if "const" in schema:
        return f"exactly {got(schema['const'])}"
    if "enum" in schema:
        return f"one of {listed(got(item) for item in schema['enum'])}"
    for word in ("anyOf", "oneOf"):
        if word in schema and "type" not in schema:
            return _either(allowed(branch) for branch in schema[word])
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else list(types)
    phrases = [_of_type(each, schema) for each in types if each != "integer" or "number" not in types]
    return _either(phrases) if phrases else _untyped(schema)


def _lines(error: ValidationError, sensitive: frozenset[str]) -> list[str]:
    path = list(error.absolute_path)
    value, rule = cast(Any, error.instance), cast(Any, error.validator_value)
    subject = f"Argument {quoted(_dotted(path))}" if path else "The arguments"
    match error.validator:
        case "required":
            missing = [name for name in rule if name not in value]
            return [_missing(path, name, error.schema) for name in missing]
        case "additionalProperties" | "unevaluatedProperties" if path and rule is False:
            known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
            extra = [name for name in value if name not in known]
            return [f"{subject}: {listed(map(quoted, extra))} unknown; known are: {listed(sorted(known))}."]
        case "dependentRequired":
            wants = [f"{quoted(key)} needs {listed(map(quoted, names))}" for key, names in rule.items()]
            return [f"{subject}: {'; '.join(wants)}."]
        case "not":
            return [f"{subject}: must not be {allowed(rule)}."]
        case _ if not path:
            return [f"{subject} must be {allowed(_only(error))}."]
        case _:
            shown = "a value that is not shown" if path[0] in sensitive else got(value)
            return [f"{subject}: got {shown}; must be {allowed(error.schema)}."]


def _missing(path: list[Any], name: str, schema: Any) -> str:
    known = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    what = f"; it must be {allowed(known[name])}" if name in known else ""
    return f"Argument {quoted(_dotted([*path, name]))} is missing{what}."


def _only(error: ValidationError) -> Any:
    """The one keyword that failed: the whole schema of a tool's arguments says nothing."""
    return {error.validator: error.validator_value}


def _of_type(name: str, schema: Mapping[str, Any]) -> str:
    match name:
        case "integer" | "number":
            return " ".join([_TYPES[name], *_number_limits(schema)])
        case "string":
            form = schema.get("format", "")
            start = FORMATS[form][1] if form in FORMATS else _TYPES[name]
            limits = _size(schema, "Length", "character", "characters")
            pattern = f"matching {_cut(schema['pattern'])}" if "pattern" in schema else ""
            return " ".join(filter(None, [start, limits, pattern]))
        case "array":
            size = _size(schema, "Items", "item", "items")
            each = f"each {allowed(schema['items'])}" if "items" in schema else ""
            unique = "without repetition" if schema.get("uniqueItems") else ""
            return ", ".join(filter(None, [f"{_TYPES[name]} {size}".strip(), each, unique]))
        case "object":
            size = _size(schema, "Properties", "property", "properties")
            return " ".join(filter(None, [_TYPES[name], size, _properties(schema)]))
        case _:
            return _TYPES[name]


def _number_limits(schema: Mapping[str, Any]) -> list[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = []
    if low is not None and high is not None:
        limits.append(f"from {low} to {high}")
    elif low is not None:
        limits.append(f"of at least {low}")
    elif high is not None:
        limits.append(f"of at most {high}")
    limits += [f"above {schema[word]}" for word in ("exclusiveMinimum",) if word in schema]
    limits += [f"below {schema[word]}" for word in ("exclusiveMaximum",) if word in schema]
    limits += [f"that is a multiple of {schema[word]}" for word in ("multipleOf",) if word in schema]
    return limits


def _size(schema: Mapping[str, Any], what: str, one: str, many: str) -> str:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if low and high is not None:
        return f"of {low} to {high} {many}" if low != high else f"of exactly {_count(low, one, many)}"
    if low:
        return f"of at least {_count(low, one, many)}"
    return f"of at most {_count(high, one, many)}" if high is not None else ""


def _properties(schema: Mapping[str, Any]) -> str:
    if required := schema.get("required"):
        return f"with {listed(required)}"
    return f"with any of {listed(schema['properties'])}" if schema.get("properties") else ""


def _untyped(schema: Mapping[str, Any]) -> str:
    """What a schema without a type asks for."""
    for name, words in (
        ("string", ("format", "pattern", "minLength", "maxLength")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
        ("array", ("items", "minItems", "maxItems", "uniqueItems", "contains", "prefixItems")),
        ("object", ("required", "properties", "minProperties", "maxProperties")),
    ):
        if any(word in schema for word in words):
            return _of_type(name, schema)
    return "a value that fits the tool's input schema"


def _either(phrases: Iterable[str]) -> str:
    return ", or ".join(dict.fromkeys(phrases))


def _dotted(path: Iterable[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
