"""Lists as bytes: each caller's own, and as fresh as what they describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.listings import Listings
from tests.world import CONFIGURATION, World, open_world

in_world = pytest.mark.asyncio(loop_scope="module")


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=40)), max_size=60))
def test_what_is_kept_is_right_and_never_more_than_allowed(steps: list[tuple[int, bytes]]) -> None:
    listings, put = Listings(100), dict[int, bytes]()
    for key, value in steps:
        listings.put(key, value)
        put[key] = value
        assert listings.get(key) == value
        kept = [found for each in put if (found := listings.get(each)) is not None]
        assert sum(map(len, kept)) <= 100
        assert all(listings.get(each) in (None, value) for each, value in put.items())


def test_what_is_too_large_is_not_kept() -> None:
    listings = Listings(10)
    listings.put("a", b"12345")
    listings.put("b", b"x" * 11)
    assert listings.get("b") is None


async def _names(world: World, client: str, **params: Any) -> list[str]:
    reply = await world.modern("tools/list", params, client=client)
    return [tool["name"] for tool in reply.result["tools"]]


@in_world
async def test_each_caller_sees_its_own_list_also_the_second_time(world: World) -> None:
    first = {client: await _names(world, client) for client in ("reader", "clerk", "stranger")}
    assert first["reader"] != first["clerk"]
    for _ in range(2):
        for client, names in first.items():
            assert await _names(world, client) == names


@in_world
async def test_revisions_do_not_share_a_list(world: World) -> None:
    for _ in range(2):
        modern, legacy = await world.modern("tools/list"), await world.legacy("tools/list")
        assert "ttlMs" in modern.result
        assert "ttlMs" not in legacy.result
        assert modern.result["tools"] == legacy.result["tools"]


@in_world
async def test_a_list_says_what_its_caller_asked_for_now(world: World) -> None:
    await world.modern("tools/list")
    refused = await world.modern("tools/list", {"cursor": "1"})
    assert refused.error["code"] == -32602
    assert (await world.modern("tools/list", meta={"io.modelcontextprotocol/clientCapabilities": 1})).error[
        "code"
    ] == -32602


async def test_rules_over_claims_decide_for_each_caller(tmp_path: Path) -> None:
    text = CONFIGURATION.replace("scopes:", "allow: [{claim: sub, equals: reader}]\n    scopes:", 1)
    async with open_world(tmp_path, text) as world:
        for _ in range(2):
            assert "customer_by_id" in await _names(world, "reader")
            assert "customer_by_id" not in await _names(world, "clerk")
