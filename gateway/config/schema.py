"""The JSON Schema of the configuration, for editors."""

from __future__ import annotations

from typing import Any, Final

from gateway.config.models import GatewaySettings
from gateway.config.units import DURATION_PATTERN, SIZE_PATTERN, format_duration, format_size

_ONLY: Final = {"type": "string", "pattern": r"^\$\{(env:[^}]+|file:[^}]+)\}$"}
_SOMEWHERE: Final = {"type": "string", "pattern": r"\$\{(env|file):"}
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_VERBATIM: Final = ("default", "enum", "examples", "required", "const")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration, before references are followed.

    A number or boolean may also be one whole reference, and a constrained text one
    that contains a reference; what they give is checked when the gateway starts.
    """
    schema: dict[str, Any] = _admit(GatewaySettings.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "MCP Database Gateway", **schema}


def _admit(node: Any) -> Any:
    """The same schema with references admitted, defaults as they are written, and unions by their tag."""
    if isinstance(node, list):
        return [_admit(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "discriminator" in node:
        return _by_tag(node)
    if node.get("format") == "password":
        return dict(_SOMEWHERE)
    result = {key: value if key in _VERBATIM else _admit(value) for key, value in node.items()}
    if isinstance(result.get("title"), str):
        del result["title"]
    if result.get("format") == "path":
        del result["format"]
    if "patternProperties" in result:
        result["additionalProperties"] = False
    _write_default(result)
    kind = result.get("type")
    if kind in ("integer", "number", "boolean"):
        return _or(result, _ONLY)
    if kind == "string" and ("enum" in result or "pattern" in result):
        return _or(result, _SOMEWHERE)
    return result


def _write_default(node: dict[str, Any]) -> None:
    """Show durations and sizes with their units; leave out the default of a whole section."""
    if isinstance(node.get("default"), dict):
        del node["default"]
    for pattern, write in ((DURATION_PATTERN, format_duration), (SIZE_PATTERN, format_size)):
        if node.get("pattern") == pattern:
            for bound in _BOUNDS:
                node.pop(bound, None)
            if "default" in node:
                node["default"] = write(node["default"])


def _or(node: dict[str, Any], reference: dict[str, str]) -> dict[str, Any]:
    outside: dict[str, Any] = {key: node.pop(key) for key in ("description", "default") if key in node}
    return {**outside, "anyOf": [node, dict(reference)]}


def _by_tag(node: dict[str, Any]) -> dict[str, Any]:
    """A union as if/then by its tag: an editor then speaks of the chosen member only."""
    tag, members = node["discriminator"]["propertyName"], node["discriminator"]["mapping"]
    return {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"anyOf": [{"enum": sorted(members)}, dict(_SOMEWHERE)]}},
        "allOf": [
            {"if": {"properties": {tag: {"const": name}}, "required": [tag]}, "then": {"$ref": member}}
            for name, member in sorted(members.items())
        ],
    }
