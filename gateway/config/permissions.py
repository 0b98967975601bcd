"""Contradictions in what callers may do: scopes that imply others, rules over claims, toolsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final

from gateway.config.auth import AuthSettings
from gateway.config.models import GatewaySettings
from gateway.config.problems import Finding, KeyPath
from gateway.config.rules import COMPARISONS, RuleSettings
from gateway.config.validation import suggestion

ANY: Final = ":*"
"""How a scope ends that stands for all that begin with what is before the star."""


def stands_for(scope: str) -> str:
    """What every scope begins with that a wildcard stands for; "" where the scope is no wildcard."""
    return scope[:-1] if scope.endswith(ANY) and len(scope) > len(ANY) else ""


def covers(wildcard: str, scope: str) -> bool:
    """Whether a scope is among those that a wildcard stands for."""
    start = stands_for(wildcard)
    return bool(start) and scope.startswith(start) and scope != start


def permissions(settings: GatewaySettings) -> Iterator[Finding]:
    """What is wrong with scopes, rules and toolsets."""
    auth = settings.auth
    yield from _hierarchy(auth)
    yield from _plain(("auth", "default_scopes"), auth.default_scopes)
    for name, tool in settings.tools.items():
        yield from _plain(("tools", name, "scopes"), tool.scopes or ())
        yield from _plain(("tools", name, "any_scopes"), tool.any_scopes or ())
        for index, rule in enumerate(tool.allow or ()):
            yield from _rule(("tools", name, "allow", index), rule)
    for name, toolset in settings.toolsets.items():
        yield from _plain(("toolsets", name, "scopes"), toolset.scopes or ())
        for index, tool_name in enumerate(toolset.tools):
            here = ("toolsets", name, "tools", index)
            if tool_name not in settings.tools:
                message = "there is no tool of this name" + suggestion(tool_name, tuple(sorted(settings.tools)))
                yield Finding(here, message, (("tools", tool_name),))
            elif tool_name in toolset.tools[:index]:
                yield Finding(here, "named twice")


def _plain(path: KeyPath, scopes: Sequence[str]) -> Iterator[Finding]:
    for index, scope in enumerate(scopes):
        if "*" in scope:
            yield Finding((*path, index), "expected a scope without *; a token may hold a wildcard, nothing needs one")


def _rule(path: KeyPath, rule: RuleSettings) -> Iterator[Finding]:
    fields = {field.alias or name: getattr(rule, name) for name, field in type(rule).model_fields.items()}
    written = [key for key in COMPARISONS if fields[key] is not None]
    if len(written) != 1:
        given = " and ".join(written) or "none"
        yield Finding(path, f"expected exactly one of {', '.join(COMPARISONS)}, got {given}")


def _hierarchy(auth: AuthSettings) -> Iterator[Finding]:
    for scope, implied in auth.scope_hierarchy.items():
        path: KeyPath = ("auth", "scope_hierarchy", scope)
        if "*" in scope or not scope.strip():
            yield Finding(path, "expected a scope without * as the key; wildcards may stand in the list")
        for index, each in enumerate(implied):
            if "*" in (stands_for(each) or each):
                yield Finding((*path, index), f"expected a scope, or one that ends in {ANY} such as customers{ANY}")
    try:
        TopologicalSorter(edges(auth.scope_hierarchy)).prepare()
    except CycleError as error:
        loop = error.args[1][::-1]
        yield Finding(("auth", "scope_hierarchy", loop[0]), f"expected no circle, got {' > '.join(loop)}")


def edges(hierarchy: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each scope of the hierarchy the others of it that it implies directly, by name or by wildcard."""
    return {
        scope: [
            other
            for other in hierarchy
            if other in implied or (other != scope and any(covers(each, other) for each in implied))
        ]
        for scope, implied in hierarchy.items()
    }
