"""Mistakes in `limits`: what they say, and the line they name."""

from __future__ import annotations

import pytest

from gateway.config.loader import load
from tests.config.conftest import ISSUER as AUTH
from tests.config.conftest import Desk

ISSUER = "https://idp.example.com/"
SHOP = "sources:\n  shop: {engine: sqlite, path: shop.db}\n"
TOOL = "tools:\n  all_orders: {description: Orders., source: shop, statement: select 1}\n"
CLIENT = "limits:\n  clients:\n"

MISTAKES = {
    "client without a name": (
        f"{CLIENT}    - {{issuer: '{ISSUER}', requests_per_minute: 1}}",
        "3: limits.clients.0: expected either client_id or subject",
    ),
    "client with two names": (
        f"{CLIENT}    - {{issuer: '{ISSUER}', client_id: a, subject: a, requests_per_minute: 1}}",
        "3: limits.clients.0: expected either client_id or subject",
    ),
    "client without a limit": (
        f"{CLIENT}    - {{issuer: '{ISSUER}', client_id: a}}",
        "3: limits.clients.0: expected requests_per_minute or concurrency; without them nothing differs",
    ),
    "burst without a rate": (
        f"{CLIENT}    - {{issuer: '{ISSUER}', client_id: a, burst: 5, concurrency: 5}}",
        "3: limits.clients.0: expected requests_per_minute beside burst",
    ),
    "unknown issuer": (
        f"{CLIENT}    - {{issuer: '{ISSUER}x', client_id: a, concurrency: 5}}",
        f"3: limits.clients.0.issuer: there is no such issuer in auth.issuers; did you mean {ISSUER}?",
    ),
    "client twice": (
        f"{CLIENT}    - {{issuer: '{ISSUER}', client_id: a, concurrency: 5}}\n"
        f"    - {{issuer: '{ISSUER}', client_id: b, concurrency: 5}}\n"
        f"    - {{issuer: '{ISSUER}', client_id: a, concurrency: 7}}",
        "5: limits.clients.2: the same client as limits.clients.0, which always comes first",
    ),
    "scope twice": (
        "limits:\n  scopes:\n    - {scope: a, requests_per_minute: 1}\n    - {scope: a, requests_per_minute: 2}",
        "4: limits.scopes.1.scope: the same as limits.scopes.0, which always comes first",
    ),
    "unknown tool": (
        f"{SHOP}{TOOL}limits:\n  tools:\n    all_order: {{requests_per_minute: 1}}",
        "7: limits.tools.all_order: there is no tool of this name; did you mean all_orders?",
    ),
    "redis without its section": (
        "limits: {backend: redis}",
        "1: limits.backend: redis needs the section redis, which says where it is",
    ),
    "a wait beyond what a stream allows": (
        "limits: {concurrency_wait: 5s}",
        "1: limits.concurrency_wait: expected at most",
    ),
    "a wait that Redis may add to": (
        "limits: {backend: redis, concurrency_wait: 3s}\n"
        "redis: {url: 'redis://127.0.0.1', key: '${env:KEY:-example-of-a-key-with-32-characters}', timeout: 1500ms}",
        "1: limits.concurrency_wait: expected at most 4s together with redis.timeout, which is 1.5s",
    ),
    "a share of more than all": (
        SHOP.replace("}", ", pool: {max: 3, max_per_client: 4}}"),
        "2: sources.shop.pool.max_per_client: expected at most pool.max, which is 3, got 4",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(desk: Desk, name: str) -> None:
    text, expected = MISTAKES[name]
    [problem] = desk.problems(text)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    "tool", ["{description: Orders., source: shop, statment: select 1}", "{description: Orders., source: shop}"]
)
def test_the_limit_of_a_tool_that_has_mistakes_is_none(desk: Desk, tool: str) -> None:
    limits = "limits: {tools: {all_orders: {requests_per_minute: 1}}}"
    problems = desk.problems(f"{SHOP}tools:\n  all_orders: {tool}\n{limits}")
    assert problems
    assert not any("limits" in problem for problem in problems)


def test_tools_of_other_files_may_be_limited(desk: Desk) -> None:
    desk.write(a=AUTH + SHOP + TOOL, b="limits: {tools: {all_orders: {requests_per_minute: 5}}}")
    configuration = load(desk.folder, environment=desk.environment)
    assert configuration.settings.limits.tools["all_orders"].requests_per_minute == 5
