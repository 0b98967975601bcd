"""What scopes imply, against a naive model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.config.permissions import edges
from gateway.context import Principal
from gateway.tools.scopes import ScopeRules

_NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(":".join)
_WILD = _NAMES.map(lambda name: f"{name}:*")
_ODD = st.sampled_from(["*", ":*", "a*", "a:", "a::*", "::*", "a:*:b", "", "a:*:*"])
_HIERARCHIES = st.dictionaries(_NAMES, st.lists(_NAMES | _WILD, min_size=1, max_size=3), max_size=4)


def held(rules: ScopeRules, scopes: frozenset[str]) -> frozenset[str]:
    return rules.enlarge(Principal("i", "s", "c", scopes)).scopes


def _stands_for(wildcard: str, scope: str) -> bool:
    start = wildcard.removesuffix("*")
    return wildcard.endswith(":*") and len(wildcard) > 2 and scope.startswith(start) and scope > start


def _model(
    hierarchy: Mapping[str, Sequence[str]], has_wildcards: bool, named: frozenset[str], scopes: frozenset[str]
) -> frozenset[str]:
    """Add what is implied by one step until nothing more comes."""
    universe = named | {each for implied in hierarchy.values() for each in implied if "*" not in each} | set(hierarchy)
    reached = set(scopes)
    if has_wildcards:
        reached |= {each for each in universe if any(_stands_for(scope, each) for scope in scopes)}
    while True:
        step = {
            each
            for scope in reached & set(hierarchy)
            for implied in hierarchy[scope]
            for each in universe
            if each == implied or _stands_for(implied, each)
        }
        if step <= reached:
            return frozenset(reached)
        reached |= step


def _has_circle(hierarchy: Mapping[str, Sequence[str]]) -> bool:
    graph = edges(hierarchy)

    def leads_back(start: str) -> bool:
        seen, waiting = set(), list(graph[start])
        while waiting:
            scope = waiting.pop()
            if scope == start:
                return True
            if scope not in seen:
                seen.add(scope)
                waiting += graph[scope]
        return False

    return any(map(leads_back, graph))


@given(_HIERARCHIES, st.booleans(), st.frozensets(_NAMES, max_size=6), st.frozensets(_NAMES | _WILD | _ODD, max_size=3))
def test_everything_implied_and_nothing_else(
    hierarchy: dict[str, list[str]], has_wildcards: bool, named: frozenset[str], scopes: frozenset[str]
) -> None:
    assume(not _has_circle(hierarchy))
    rules = ScopeRules(hierarchy, has_wildcards, named)
    assert held(rules, scopes) == _model(hierarchy, has_wildcards, named, scopes)
    assert held(rules, held(rules, scopes)) == held(rules, scopes)


def test_a_wildcard_of_a_token_is_text_unless_switched_on() -> None:
    scopes = frozenset({"customers:*"})
    assert held(ScopeRules({}, False, frozenset({"customers:read"})), scopes) == scopes
    assert held(ScopeRules({}, True, frozenset({"customers:read", "orders:read"})), scopes) == {
        *("customers:*", "customers:read")
    }


def test_only_what_is_asked_for_somewhere_is_added() -> None:
    rules = ScopeRules({"admin": ["customers:*"]}, False, frozenset({"customers:read", "customers:write:all"}))
    assert held(rules, frozenset({"admin"})) == {"admin", "customers:read", "customers:write:all"}


def test_a_caller_without_anything_implied_stays_the_same_object() -> None:
    caller = Principal("i", "s", "c", frozenset({"x"}))
    assert ScopeRules({"admin": ["y"]}, True, frozenset({"x:y"})).enlarge(caller) is caller


def test_memory_is_bounded() -> None:
    rules = ScopeRules({"admin": ["y"]}, False, frozenset())
    for number in range(3000):
        held(rules, frozenset({f"s{number}", "admin"}))
    assert rules.remembered() <= 1024
