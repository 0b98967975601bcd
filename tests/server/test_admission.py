"""Limits as clients meet them: over real HTTP, with real tokens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import jwt

from tests.database.support import ROUNDS
from tests.world import CONFIGURATION, Reply, World, envelope, open_world, routing

DEFAULTS = "{requests_per_minute: 100000, burst: 10000, failed_logins_burst: 10000, concurrency_per_client: 100}"
LONG = {"n": 30_000_000}


def limited(limits: str, more: str = "") -> str:
    assert DEFAULTS in CONFIGURATION
    return CONFIGURATION.replace(DEFAULTS, limits) + more


def refused(reply: Reply, limit: str) -> None:
    """Refused as an agent understands it: a status, a header, a JSON-RPC error, and no stream."""
    assert reply.status == 429
    assert not reply.is_stream
    assert reply.error["code"] == -32005
    assert reply.error["data"]["limit"] == limit
    assert 0 < reply.error["data"]["retry_after_ms"] <= 1000 * int(reply.headers["Retry-After"])


async def forged(world: World, number: int = 0, headers: dict[str, str] | None = None) -> Reply:
    token = jwt.encode({"sub": f"x{number}", "iss": world.provider.issuer}, "k" * 32, algorithm="HS256")
    given = {"Authorization": f"Bearer {token}", **(headers or {})}
    return await world.send(envelope("tools/list"), client=None, headers=given)


async def test_named_clients_and_scopes_have_budgets_of_their_own(tmp_path: Path) -> None:
    limits = """
  requests_per_minute: 6
  burst: 2
  clients: [{issuer: "${env:ISSUER}", client_id: clerk, requests_per_minute: 60, burst: 4}]
  scopes: [{scope: "orders:read", requests_per_minute: 6, burst: 3}, {scope: "customers:read", requests_per_minute: 1}]
"""
    async with open_world(tmp_path, limited(limits)) as world:
        for client, burst in (("stranger", 2), ("reader", 3), ("clerk", 4)):
            replies = [await world.modern("tools/list", client=client) for _ in range(burst + 1)]
            assert [reply.status for reply in replies] == [200] * burst + [429], client
            refused(replies[-1], "client")


async def test_a_tool_has_a_budget_beside_the_clients(tmp_path: Path) -> None:
    limits = DEFAULTS.replace(
        "{", "{tools: {orders_total: {requests_per_minute: 2}, customer_by_id: {requests_per_minute: 1}}, "
    )
    async with open_world(tmp_path, limited(limits)) as world:
        for _ in range(5):
            assert (await world.modern("tools/list")).status == 200
        assert [(await world.call("orders_total")).status for _ in range(2)] == [200, 200]
        reply = await world.call("orders_total")
        refused(reply, "tool")
        assert "orders_total" in reply.error["message"]
        refused(await world.legacy("tools/call", {"name": "orders_total", "arguments": {}}), "tool")
        # Progress was asked for, yet nothing was streamed before the decision.
        params = {"name": "orders_total", "arguments": {}}
        refused(await world.modern("tools/call", params, meta={"progressToken": 1}), "tool")
        # Other tools and other clients are not touched; who may not call it spends nothing.
        assert (await world.call("customer_by_id", {"id": 1})).status == 200
        assert (await world.call("customer_by_id", {"id": 1}, client="clerk")).status == 200
        assert (await world.call("orders_total", client="clerk")).status == 403


async def test_an_address_that_fails_too_often_gets_no_token_looked_at(tmp_path: Path) -> None:
    limits = "{requests_per_minute: 100000, burst: 10000, failed_logins_per_minute: 120, failed_logins_burst: 3}"
    async with open_world(tmp_path, limited(limits)) as world:
        assert (await world.modern("tools/list")).status == 200
        assert [(await forged(world, number)).status for number in range(4)] == [401, 401, 401, 429]
        refused(await forged(world, 5), "address")
        refused(await world.send(envelope("tools/list"), client=None), "address")
        # A good token is not looked at either, unless it is known to be good.
        refused(await world.modern("tools/list", client="clerk"), "address")
        assert (await world.modern("tools/list")).status == 200
        for path in ("/healthz/live", "/healthz/ready", "/.well-known/oauth-protected-resource"):
            assert (await world.send(None, raw=b"", client=None, method="GET", url=world.base + path)).status == 200
        wait = (await forged(world)).error["data"]["retry_after_ms"] / 1000
        assert wait <= 1.0
        await asyncio.sleep(wait)
        assert (await world.modern("tools/list", client="clerk")).status == 200
        assert (await world.modern("tools/list", client="clerk")).status == 200


async def test_first_contacts_without_a_token_have_room(tmp_path: Path) -> None:
    limits = "{failed_logins_per_minute: 1, failed_logins_burst: 2}"
    async with open_world(tmp_path, limited(limits)) as world:
        replies = [await world.send(envelope("tools/list"), client=None) for _ in range(6)]
        assert [reply.status for reply in replies] == [401] * 5 + [429]
        refused(replies[-1], "address")


async def test_addresses_are_those_that_trusted_proxies_tell(tmp_path: Path) -> None:
    limits = "{failed_logins_per_minute: 1, failed_logins_burst: 1}"
    configuration = limited(limits).replace("port: 0}", "port: 0, trusted_proxies: [127.0.0.0/8]}", 1)
    async with open_world(tmp_path, configuration) as world:

        async def status(address: str) -> int:
            return (await forged(world, headers={"X-Forwarded-For": address})).status

        assert [await status("198.51.100.1"), await status("198.51.100.1")] == [401, 429]
        assert [await status("198.51.100.2"), await status("6.6.6.6, 198.51.100.2")] == [401, 429]
        assert [await status("2001:db8:1:1::1"), await status("2001:db8:1:1:ffff::2")] == [401, 429]
        assert [await status("2001:db8:1:2::1"), await status("::ffff:198.51.100.2")] == [401, 429]


@asynccontextmanager
async def busy(world: World, count: int, client: str = "reader") -> AsyncIterator[Sequence[asyncio.Task[Reply]]]:
    """That many long calls under way, ended by leaving."""
    tasks = [asyncio.create_task(world.call("count_slowly", LONG, client=client)) for _ in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def active(world: World, count: int) -> None:
    async with asyncio.timeout(10):
        while world.gateway.snapshot.sources["shop"].stats.active != count:  # noqa: ASYNC110 - counted by the pool
            await asyncio.sleep(0.005)


async def test_too_many_calls_at_once_wait_and_are_refused(tmp_path: Path) -> None:
    limits = "{requests_per_minute: 100000, burst: 10000, concurrency_per_client: 2, concurrency_wait: 200ms}"
    async with open_world(tmp_path, limited(limits)) as world:
        async with busy(world, 2):
            await active(world, 2)
            started = time.monotonic()
            reply = await world.call("customer_by_id", {"id": 1})
            refused(reply, "concurrency")
            assert 0.2 <= time.monotonic() - started < 3
            assert "2 calls running" in reply.error["message"]
            params = {"name": "customer_by_id", "arguments": {"id": 1}}
            refused(await world.modern("tools/call", params, meta={"progressToken": 1}), "concurrency")
            # Everything but running tools goes on; so do other clients.
            assert (await world.modern("tools/list")).status == 200
            assert (await world.call("customer_by_id", {"id": 1}, client="clerk")).status == 200
            # Only so many wait: the ninth is refused without waiting.
            replies = await asyncio.gather(*(world.call("customer_by_id", {"id": 1}) for _ in range(12)))
            assert {reply.status for reply in replies} == {429}
        await active(world, 0)
        # Those who left gave their places back; a short queue is served within the wait.
        replies = await asyncio.gather(*(world.call("customer_by_id", {"id": 1}) for _ in range(10)))
        assert [reply.status for reply in replies] == [200] * 10


async def test_clients_that_leave_at_any_moment_leave_no_place_taken(tmp_path: Path) -> None:
    limits = "{requests_per_minute: 1000000, burst: 10000, concurrency_per_client: 1, concurrency_wait: 50ms}"
    dice = random.Random(5)
    async with open_world(tmp_path, limited(limits)) as world:
        for _ in range(ROUNDS):
            tasks = [asyncio.create_task(world.call("count_slowly", {"n": dice.choice((1, 20_000))})) for _ in range(6)]
            for task in dice.sample(tasks, 4):
                asyncio.get_running_loop().call_later(dice.random() * 0.08, task.cancel)
            replies = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(reply, asyncio.CancelledError | Reply) for reply in replies)
        await active(world, 0)
        assert (await world.call("customer_by_id", {"id": 1})).status == 200
        async with busy(world, 1):
            await active(world, 1)


async def test_a_named_client_may_have_more_at_once(tmp_path: Path) -> None:
    named = '[{issuer: "${env:ISSUER}", client_id: reader, concurrency: 3}]'
    limits = f"{{burst: 100, concurrency_per_client: 1, concurrency_wait: 0s, clients: {named}}}"
    async with open_world(tmp_path, limited(limits)) as world, busy(world, 3):
        await active(world, 3)
        refused(await world.call("customer_by_id", {"id": 1}), "concurrency")
        async with busy(world, 1, "clerk"):
            await active(world, 4)
            refused(await world.call("customer_by_id", {"id": 1}, client="clerk"), "concurrency")


async def test_a_write_that_goes_on_without_its_client_still_counts(tmp_path: Path) -> None:
    limits = "{burst: 100, concurrency_per_client: 1, concurrency_wait: 0s}"
    async with open_world(tmp_path, limited(limits)) as world:
        source = world.gateway.snapshot.sources["shop_rw"]
        async with asyncio.timeout(10):
            # The gateway itself uses a connection while it prepares.
            while "rename_slowly" not in source.shapes or source.stats.active:  # noqa: ASYNC110 - counted by the pool
                await asyncio.sleep(0.005)
        params = {"name": "rename_slowly", "arguments": {"id": 1, "name": "Renamed", "n": 6_000_000}}
        left = asyncio.create_task(world.legacy("tools/call", params, client="clerk"))
        async with asyncio.timeout(10):
            while source.stats.active == 0:  # noqa: ASYNC110 - counted by the pool
                await asyncio.sleep(0.001)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        refused(await world.call("customer_by_id", {"id": 1}, client="clerk"), "concurrency")
        async with asyncio.timeout(20):
            while source.stats.active:  # noqa: ASYNC110 - counted by the pool
                await asyncio.sleep(0.005)
        reply = await world.call("customer_by_id", {"id": 1}, client="clerk")
        assert reply.result["structuredContent"]["rows"][0]["name"] == "Renamed"


async def test_one_client_does_not_hold_every_connection_of_a_source(tmp_path: Path) -> None:
    small = 'shop: {engine: sqlite, path: "${env:DATABASE}", required: true, statement_timeout: 20s'
    configuration = CONFIGURATION.replace(small, f"{small}, pool: {{max: 3, acquire_timeout: 500ms}}")
    assert configuration != CONFIGURATION
    async with open_world(tmp_path, configuration) as world, busy(world, 5):
        await active(world, 2)
        assert (await world.call("customer_by_id", {"id": 1}, client="clerk")).status == 200
        reply = await world.call("customer_by_id", {"id": 1})
        assert reply.result["_meta"]["mcp-database-gateway/error"]["code"] == "pool_timeout"
        assert world.gateway.snapshot.sources["shop"].stats.active == 2


async def test_a_modern_request_that_is_malformed_spends_no_tool_budget(tmp_path: Path) -> None:
    limits = "{requests_per_minute: 1000, tools: {orders_total: {requests_per_minute: 1}}}"
    async with open_world(tmp_path, limited(limits)) as world:
        body = envelope("tools/call", {"name": "orders_total", "arguments": {}})
        wrong = {**routing(body), "Mcp-Name": "another"}
        assert [(await world.send(body, headers=wrong)).status for _ in range(3)] == [400] * 3
        assert (await world.call("orders_total")).status == 200
        refused(await world.call("orders_total"), "tool")
