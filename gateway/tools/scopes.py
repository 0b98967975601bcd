"""Scopes that imply others: hierarchies and wildcards, resolved once for each set of scopes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from graphlib import TopologicalSorter
from typing import Final

from gateway.config.models import GatewaySettings
from gateway.config.permissions import ANY, covers, edges, stands_for
from gateway.context import Principal

_REMEMBERED: Final = 1024


class ScopeRules:
    """What scopes grant beside themselves.

    Only scopes that the configuration names are ever added: others open nothing.

    Args:
        hierarchy: for each scope what it implies, by name or by wildcard; without circles.
        has_wildcards: whether wildcards of tokens are resolved as well.
        named: every scope that anything needs.
    """

    def __init__(self, hierarchy: Mapping[str, Sequence[str]], has_wildcards: bool, named: frozenset[str]) -> None:
        listed = {scope for implied in hierarchy.values() for scope in implied if not stands_for(scope)}
        known = named | listed | hierarchy.keys()
        self._wildcards = {scope: frozenset(_wildcards(scope)) for scope in known} if has_wildcards else {}
        self._implied = _closed(hierarchy, known)
        self._is_plain = not hierarchy and not has_wildcards
        self._granted = lru_cache(maxsize=_REMEMBERED)(self._resolve)

    def enlarge(self, principal: Principal) -> Principal:
        """The caller with everything that its scopes imply."""
        if self._is_plain:
            return principal
        scopes = self._granted(principal.scopes)
        return replace(principal, scopes=scopes) if len(scopes) > len(principal.scopes) else principal

    def remembered(self) -> int:
        """How many sets of scopes are resolved by now and remembered."""
        return self._granted.cache_info().currsize

    def _resolve(self, scopes: frozenset[str]) -> frozenset[str]:
        held = scopes.union(scope for scope, wildcards in self._wildcards.items() if not wildcards.isdisjoint(scopes))
        return held.union(*(implied for scope, implied in self._implied.items() if scope in held))


def named_scopes(settings: GatewaySettings) -> frozenset[str]:
    """Every scope that a configuration asks for anywhere."""
    tools, toolsets = settings.tools.values(), settings.toolsets.values()
    accounts = [account for source in settings.sources.values() for account in source.credentials]
    return frozenset(
        [
            *settings.auth.default_scopes,
            *(scope for tool in tools for scope in (*(tool.scopes or ()), *(tool.any_scopes or ()))),
            *(scope for toolset in toolsets for scope in toolset.scopes or ()),
            *(limit.scope for limit in settings.limits.scopes),
            *(account.when.scope for account in accounts if account.when.scope is not None),
        ]
    )


def scope_rules(settings: GatewaySettings) -> ScopeRules:
    """The rules of a configuration."""
    auth = settings.auth
    return ScopeRules(auth.scope_hierarchy, auth.scope_wildcards, named_scopes(settings))


def _wildcards(scope: str) -> Iterator[str]:
    """Every wildcard that stands for a scope: a:b:c is among a:* and a:b:*."""
    for index, letter in enumerate(scope):
        if letter == ANY[0] and index and index + 1 < len(scope):
            yield f"{scope[:index]}{ANY}"


def _closed(hierarchy: Mapping[str, Sequence[str]], known: frozenset[str]) -> dict[str, frozenset[str]]:
    """Everything that each scope implies, directly or not."""
    closed: dict[str, frozenset[str]] = {}
    graph = edges(hierarchy)
    for scope in TopologicalSorter(graph).static_order():
        implied = hierarchy[scope]
        direct = (other for other in known if other in implied or any(covers(each, other) for each in implied))
        closed[scope] = frozenset(direct).union(*(closed[other] for other in graph[scope]))
    return closed
