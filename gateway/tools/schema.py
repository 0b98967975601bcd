"""A tool's input schema at load: from the short form to what is published, and every mistake in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from gateway.tools import metaschema
from gateway.tools.formats import FORMATS
from gateway.tools.validation import MAX_PATTERN_INPUT, compile_pattern, is_integer, is_number

Path = tuple[str | int, ...]
Mistake = tuple[Path, str]
"""Where below the tool, and what was expected."""

TYPES: Final = ("string", "integer", "number", "boolean", "array", "object")
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_HEADER: Final = "x-mcp-header"
FROM_CLAIM: Final = "from_claim"
"""The house word of a parameter that is not the caller's to give."""
_CLAIM: Final = re.compile(r"[^\s.]+(\.[^\s.]+)*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MAPS: Final = ("properties", "patternProperties", "$defs", "dependentSchemas")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLES: Final = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
_KEYWORDS: Final = frozenset(
    {*_MAPS, *_LISTS, *_SINGLES, "type", "enum", "const", "default", "title", "description", "examples", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern", "minLength", "maxLength"}
    | {"minItems", "maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties"}
    | {"required", "dependentRequired", "$ref", "$comment", "deprecated", "readOnly", "writeOnly"}
    | {"contentEncoding", "contentMediaType", "nullable", "sensitive"}
)
_HOUSE: Final = ("nullable", "sensitive", "audit")


def publish(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The whole schema of a short form: house words become JSON Schema, patterns become anchored."""
    required = [name for name, each in parameters.items() if not each.get("optional") and "default" not in each]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            name: _plain({key: value for key, value in each.items() if key != "optional"})
            for name, each in parameters.items()
        },
    }
    return schema | ({"required": required} if required else {}) | {"additionalProperties": False}


def positions(schema: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every subschema with its path, the schema itself first."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for word in _SINGLES:
        yield from positions(schema.get(word), (*path, word))
    for word in _MAPS:
        children = schema.get(word)
        for name, child in children.items() if isinstance(children, dict) else ():
            yield from positions(child, (*path, word, name))
    for word in _LISTS:
        branches = schema.get(word)
        for index, child in enumerate(branches if isinstance(branches, list) else ()):
            yield from positions(child, (*path, word, index))


def house_mistakes(parameters: Mapping[str, Mapping[str, Any]]) -> list[Mistake]:
    """What is wrong in a short form beyond JSON Schema: misspelt keywords, misused house words."""
    mistakes: list[Mistake] = []
    for name, parameter in parameters.items():
        for path, schema in positions(parameter):
            known = _KEYWORDS | ({"optional", "audit"} if not path else set())
            mistakes += [
                ((name, *path, key), _misspelt(key, known))
                for key in schema
                if key not in known and not str(key).startswith("x-")
            ]
            mistakes += [
                ((name, *path, word), "expected true or false")
                for word in ("optional", "nullable", "sensitive")
                if word in schema and not isinstance(schema[word], bool)
            ]
        if parameter.get("audit", "clear") != "clear":
            mistakes.append(((name, "audit"), "expected clear; without it only a keyed hash of the value is recorded"))
        elif "audit" in parameter and parameter.get("sensitive") is True:
            mistakes.append(((name, "audit"), "a sensitive value is never recorded; remove one of both"))
        if parameter.get("optional") and "default" in parameter:
            mistakes.append(
                ((name, "optional"), "a parameter with a default may always be left out; remove one of both")
            )
    return mistakes


def claim_mistakes(parameters: Mapping[str, Mapping[str, Any]]) -> Iterator[Mistake]:
    """What is wrong with parameters that take a claim: each has a path, and a value in every call."""
    for name, parameter in parameters.items():
        path = parameter[FROM_CLAIM]
        if not isinstance(path, str) or not _CLAIM.fullmatch(path):
            yield (name, FROM_CLAIM), "expected the name of a claim, with dots into nested ones"
        for word in ("optional", "default", "nullable", _HEADER):
            if word in parameter:
                yield (name, word), f"expected either this or {FROM_CLAIM}; a claim is there, or the call is denied"


def schema_mistakes(schema: dict[str, Any]) -> list[Mistake]:
    """What is wrong with a whole schema: the metaschema, types, formats, patterns, references, headers."""
    if strange := list(_strange(schema)):
        return strange
    mistakes = list(_local_mistakes(schema))
    told = {path for path, _ in mistakes}
    for path, text in metaschema.mistakes(schema):
        if not any(path[: len(each)] == each or each[: len(path)] == path for each in told):
            mistakes.append((path, text))
    if schema.get("type") != "object":
        mistakes.append((("type",), "expected object: the arguments of a tool are an object"))
    if schema.get("$schema", DIALECT) != DIALECT:
        mistakes.append((("$schema",), f"expected {DIALECT}"))
    return mistakes or [*_reference_mistakes(schema), *_header_mistakes(schema)]


def resolve(schema: dict[str, Any], reference: str) -> Any:
    """What a local reference points at.

    Raises:
        Unresolvable: nothing.
    """
    resource = Resource.from_contents({**schema, "$schema": DIALECT}, default_specification=DRAFT202012)
    return Registry().resolver_with_root(resource).lookup(reference).contents


def bind_types(schema: Any, root: dict[str, Any]) -> frozenset[str]:
    """The types that a property's value may have, null left out; empty where the schema does not say."""
    named = _types(schema, root, 0) - {"null"}
    return frozenset({"number"}) if named == {"integer", "number"} else named


def _types(schema: Any, root: dict[str, Any], depth: int) -> frozenset[str]:
    if not isinstance(schema, dict) or depth > 10:
        return frozenset()
    if "type" in schema:
        return frozenset([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
    if "$ref" in schema:
        return _types(resolve(root, schema["$ref"]), root, depth + 1)
    if "enum" in schema or "const" in schema:
        return frozenset(map(_type_of, schema.get("enum", [schema.get("const")])))
    for word in ("allOf", "anyOf", "oneOf"):
        if word in schema:
            return frozenset().union(*(_types(each, root, depth + 1) for each in schema[word]))
    return frozenset()


def _plain(schema: Any) -> Any:
    """A short-form schema without house words."""
    if not isinstance(schema, dict):
        return schema
    plain = {key: value for key, value in schema.items() if key not in _HOUSE}
    for word in _SINGLES:
        if word in plain:
            plain[word] = _plain(plain[word])
    for word in _MAPS:
        if isinstance(plain.get(word), dict):
            plain[word] = {name: _plain(child) for name, child in plain[word].items()}
    for word in _LISTS:
        if isinstance(plain.get(word), list):
            plain[word] = [_plain(child) for child in plain[word]]
    if isinstance(plain.get("pattern"), str):
        plain["pattern"] = anchored(plain["pattern"])
        plain.setdefault("maxLength", MAX_PATTERN_INPUT)
    if schema.get("nullable") is True:
        _admit_null(plain)
    if schema.get("sensitive") is True:
        plain["writeOnly"] = True
    return plain


def anchored(pattern: str) -> str:
    """The pattern for the whole string: as written where it says so, else inside ^(?:...)$."""
    is_closed = pattern.endswith("$") and not pattern.endswith("\\$")
    return pattern if pattern.startswith("^") and is_closed and "|" not in pattern else f"^(?:{pattern})$"


def _admit_null(schema: dict[str, Any]) -> None:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    elif isinstance(schema.get("type"), list) and "null" not in schema["type"]:
        schema["type"] = [*schema["type"], "null"]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]


def _local_mistakes(schema: dict[str, Any]) -> Iterator[Mistake]:
    """Mistakes that one subschema shows by itself."""
    for path, each in positions(schema):
        if FROM_CLAIM in each:
            yield (*path, FROM_CLAIM), f"only a parameter itself can have {FROM_CLAIM}, under parameters"
        named = each.get("type", [])
        for name in [named] if not isinstance(named, list) else named:
            if name not in (*TYPES, "null"):
                yield (*path, "type"), f"expected one of {', '.join((*TYPES, 'null'))}"
        form = each.get("format")
        if isinstance(form, str) and form not in FORMATS:
            yield (*path, "format"), f"expected one of {', '.join(sorted(FORMATS))}"
        patterns: list[tuple[Path, Any]] = [(("pattern",), each.get("pattern"))]
        if isinstance(each.get("patternProperties"), dict):
            patterns += [(("patternProperties", key), key) for key in each["patternProperties"]]
        for place, pattern in patterns:
            if isinstance(pattern, str) and (reason := _pattern_trouble(pattern)):
                yield (*path, *place), f"expected a regular expression: {reason}"
        for word in ("minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"):
            if word in each and not (is_number(each[word]) or isinstance(each[word], float)):
                yield (*path, word), "expected a number"


def _reference_mistakes(schema: dict[str, Any]) -> Iterator[Mistake]:
    for path, each in positions(schema):
        for word in ("$ref", "$dynamicRef"):
            target = each.get(word)
            if not isinstance(target, str):
                continue
            if not target.startswith("#"):
                yield (*path, word), "expected a reference inside this schema (#/...); nothing is fetched"
                continue
            try:
                resolve(schema, target)
            except Unresolvable:
                yield (*path, word), f"nothing in this schema is called {target}"


def _header_mistakes(schema: dict[str, Any]) -> Iterator[Mistake]:
    """MCP 2026-07-28: clients drop a tool whose header annotations are wrong."""
    seen: set[str] = set()
    for path, each in positions(schema):
        if _HEADER not in each:
            continue
        header = each[_HEADER]
        if not isinstance(header, str) or not _TOKEN.fullmatch(header):
            yield (*path, _HEADER), "expected a header name's part: letters, digits and - (RFC 9110 token)"
        elif not path or set(path[::2]) != {"properties"}:
            yield (*path, _HEADER), "only a property can travel as a header"
        elif each.get("type") not in ("string", "integer", "boolean"):
            yield (*path, _HEADER), "only a string, integer or boolean that cannot be null can travel as a header"
        elif header.lower() in seen:
            yield (*path, _HEADER), f"{header} is used twice"
        else:
            seen.add(header.lower())


def _strange(value: Any, path: Path = ()) -> Iterator[Mistake]:
    """Values that YAML makes and JSON does not have."""
    if isinstance(value, dict):
        for key, child in value.items():
            if not isinstance(key, str):
                yield (*path, str(key)), "expected text as a key; write it in quotes"
            else:
                yield from _strange(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _strange(child, (*path, index))
    elif isinstance(value, float) and value - value != 0.0:
        yield path, "expected a finite number"
    elif not isinstance(value, str | int | float | None):
        yield path, f"JSON has no {type(value).__name__}; write the value in quotes"


def _pattern_trouble(pattern: str) -> str:
    try:
        compile_pattern(pattern)
    except re.error as error:
        return str(error)
    return ""


def _misspelt(key: Any, known: frozenset[str] | set[str]) -> str:
    if key == "optional":
        return "only a parameter itself can be optional; list what an object needs under required"
    close = difflib.get_close_matches(str(key), sorted(known), 1)
    return f"unknown keyword; did you mean {close[0]}?" if close else "unknown keyword"


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float) or is_number(value):
        return "integer" if is_integer(value) else "number"
    return {str: "string", list: "array", dict: "object", type(None): "null"}[type(value)]
