"""Mistakes in scopes, rules and toolsets: what each says, and the line it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.permissions import covers, edges
from tests.config.conftest import Desk

HEAD = "sources:\n  shop: {engine: sqlite, path: shop.db}\ntools:\n  all:\n    description: x\n    source: shop\n"
TOOL = HEAD + "    statement: select 1\n"

MISTAKES = {
    "no comparison": (
        TOOL + "    allow: [{claim: a}]",
        "8: tools.all.allow.0: expected exactly one of equals, contains, matches, in, equals_argument, "
        "contains_argument, got none",
    ),
    "two comparisons": (
        TOOL + "    allow:\n      - {claim: a, equals: b}\n      - {claim: a, in: [b], equals: b}",
        "10: tools.all.allow.1: expected exactly one of equals, contains, matches, in, equals_argument, "
        "contains_argument, got equals and in",
    ),
    "no rule": (TOOL + "    allow: []", "8: tools.all.allow: expected at least 1 item, got a list of 0"),
    "no scope": (TOOL + "    any_scopes: []", "8: tools.all.any_scopes: expected at least 1 item, got a list of 0"),
    "misspelt": (
        TOOL + "    allow: [{claim: a, equal: b}]",
        "8: tools.all.allow.0.equal: unknown key; did you mean equals?",
    ),
    "the key that is a word of Python": (
        TOOL + "    allow: [{claim: a, one_of: [b]}]",
        "8: tools.all.allow.0.one_of: unknown key; known here: claim, contains, contains_argument, equals, "
        "equals_argument, in, matches",
    ),
    "no value of a claim": (
        TOOL + "    allow: [{claim: a, equals: 1.5}]",
        "8: tools.all.allow.0.equals: expected text, a whole number, true or false, got the number 1.5",
    ),
    "list of values": (
        TOOL + "    allow: [{claim: a, equals: [b]}]",
        "8: tools.all.allow.0.equals: expected text, a whole number, true or false, got a list of 1",
    ),
    "no path": (
        TOOL + '    allow: [{claim: "a b", equals: b}]',
        '8: tools.all.allow.0.claim: expected the name of a claim, with dots into nested ones, got text "a b"',
    ),
    "wildcard that is needed": (
        TOOL + '    scopes: ["orders:*"]',
        "8: tools.all.scopes.0: expected a scope without *; a token may hold a wildcard, nothing needs one",
    ),
    "wildcard among others": (
        TOOL + '    any_scopes: [a, "*"]',
        "8: tools.all.any_scopes.1: expected a scope without *; a token may hold a wildcard, nothing needs one",
    ),
    "toolset of nothing": (
        TOOL + "toolsets:\n  a: {tools: []}",
        "9: toolsets.a.tools: expected at least 1 item, got a list of 0",
    ),
    "toolset of an unknown tool": (
        TOOL + "toolsets:\n  a: {tools: [all, al]}",
        "9: toolsets.a.tools.1: there is no tool of this name; did you mean all?",
    ),
    "toolset that names a tool twice": (
        TOOL + "toolsets:\n  a: {tools: [all, all]}",
        "9: toolsets.a.tools.1: named twice",
    ),
    "toolset that cannot be a path": (
        TOOL + "toolsets:\n  a/b: {tools: [all]}",
        "9: toolsets.a/b: expected a name of at most 64 letters, digits, _ . - that starts with a letter",
    ),
    "toolset with a wildcard": (
        TOOL + 'toolsets:\n  a: {tools: [all], scopes: ["a:*"]}',
        "9: toolsets.a.scopes.0: expected a scope without *; a token may hold a wildcard, nothing needs one",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(desk: Desk, text: str, expected: str) -> None:
    assert desk.problems(text) == [expected]


def test_a_toolset_does_not_miss_a_tool_that_has_a_mistake_of_its_own(desk: Desk) -> None:
    text = HEAD + "    max_rows: 0\n    statement: select 1\ntoolsets:\n  a: {tools: [all]}"
    assert desk.problems(text) == ["7: tools.all.max_rows: expected at least 1, got the number 0"]


HIERARCHIES = {
    "a: [b], b: [a]": "expected no circle, got ",
    "a: [a]": "expected no circle, got a > a",
    '"x:a": ["x:*"], "x:b": ["x:a"]': "expected no circle, got ",
    '"x:a": ["x:*"], "x:b": ["x:*"]': "expected no circle, got ",
    '"x:*": [a]': "expected a scope without * as the key",
    'a: ["*"]': "expected a scope, or one that ends in :* such as customers:*",
    'a: ["x*"]': "expected a scope, or one that ends in :*",
    'a: ["*:read"]': "expected a scope, or one that ends in :*",
    'a: [":*"]': "expected a scope, or one that ends in :*",
    'a: ["x:*:*"]': "expected a scope, or one that ends in :*",
    "a: []": "expected at least 1 item",
}


@pytest.mark.parametrize(("hierarchy", "expected"), HIERARCHIES.items(), ids=HIERARCHIES)
def test_hierarchy(desk: Desk, hierarchy: str, expected: str) -> None:
    desk.write(gateway=f"auth:\n  mode: none\n  scope_hierarchy: {{{hierarchy}}}\n")
    (problem,) = desk.folder_problems()
    assert problem.startswith("gateway.yaml:3: auth.scope_hierarchy.")
    assert expected in problem


def test_a_scope_may_imply_all_beside_it() -> None:
    assert edges({"x:admin": ("x:*",), "x:write": ("x:read",)}) == {"x:admin": ["x:write"], "x:write": []}


@given(st.text("ab:*", max_size=5), st.text("ab:*", max_size=5))
def test_a_wildcard_covers_what_goes_on_after_its_colon(wildcard: str, scope: str) -> None:
    start = wildcard[:-1]
    is_wildcard = wildcard.endswith(":*") and len(wildcard) >= 3
    assert covers(wildcard, scope) is (is_wildcard and scope[: len(start)] == start and len(scope) > len(start))
