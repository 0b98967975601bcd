"""Networks that go wrong between the gateway and a real server, by a proxy that makes the faults."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.database.sources import Source
from gateway.errors import Code, ToolError
from tests.database.support import reached, run, statement, until
from tests.servers.proxy import FaultProxy, fault_proxy

# The proxy's sockets can outlive a test's event loop when they are cut in mid-connect; they are collected here.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

POOL = {"min": 1, "max": 2, "acquire_timeout": "1s"}
LIMITS = {"connect_timeout": "500ms", "statement_timeout": "500ms", "pool": POOL, "tls": {"mode": "disable"}}


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Leave no socket of the proxy to another test's account."""
    yield
    gc.collect()


@pytest.fixture(params=["postgresql", "mysql", "oracle"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each engine that is reached over a network."""
    return request.getfixturevalue({"postgresql": "postgresql", "mysql": "mariadb", "oracle": "oracle"}[request.param])


@asynccontextmanager
async def _behind_a_proxy(server: Any, **overrides: Any) -> AsyncIterator[tuple[FaultProxy, Source]]:
    async with fault_proxy(server.host, server.port) as proxy:
        settings = server.settings(**(LIMITS | {"host": proxy.host, "port": proxy.port} | overrides))
        async with reached(settings) as source:
            yield proxy, source


async def _heals(source: Source) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await run(source, statement(source.engine, "select 1 as n"))).rows
            except ToolError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_black_hole_holds_nobody_past_a_limit(server: Any) -> None:
    async with _behind_a_proxy(server) as (proxy, source):
        one = statement(source.engine, "select 1 as n")
        assert (await run(source, one)).rows
        proxy.stall()
        started = time.monotonic()
        outcomes = await asyncio.gather(*(run(source, one) for _ in range(8)), return_exceptions=True)
        # The longest way to fail: wait for a connection, then run into the statement's limit.
        assert time.monotonic() - started < 3.0
        codes = {error.code for error in outcomes if isinstance(error, ToolError)}
        assert len([error for error in outcomes if isinstance(error, ToolError)]) == 8
        allowed = {Code.STATEMENT_TIMEOUT, Code.POOL_TIMEOUT, Code.CONNECT_TIMEOUT, Code.SOURCE_UNAVAILABLE}
        assert codes <= allowed | {Code.CONNECTION_LOST}
        await proxy.heal()
        await _heals(source)
        await until(lambda: source.stats.active == 0 and source.stats.waiting == 0)


async def test_a_reset_in_the_middle_is_a_lost_connection(server: Any) -> None:
    async with _behind_a_proxy(server, statement_timeout="10s") as (proxy, source):
        sleep = "select pg_sleep(5)" if source.engine.dialect == "postgres" else "select sleep(5)"
        running = asyncio.create_task(run(source, statement(source.engine, f"{sleep} as n", name="sleep")))
        await until(lambda: source.stats.active == 1)
        await asyncio.sleep(0.1)
        proxy.reset()
        with pytest.raises(ToolError) as caught:
            await asyncio.wait_for(running, 5)
        assert caught.value.code is Code.CONNECTION_LOST
        await _heals(source)


async def test_a_result_that_is_cut_off_is_no_result(server: Any) -> None:
    async with _behind_a_proxy(server, statement_timeout="5s") as (proxy, source):
        series = "generate_series(1, 30)" if source.engine.dialect == "postgres" else "seq_1_to_30"
        many = f"select repeat('x', 1000) as t from {series} as s"
        if source.engine.dialect == "oracle":  # the stand-in's SQL is SQLite's
            numbers = "with recursive n(i) as (select 1 union all select i + 1 from n limit 30)"
            many = f"{numbers} select hex(zeroblob(500)) as t from n"
        rows = statement(source.engine, many, name="many")
        wide = (await run(source, rows)).rows
        assert wide
        proxy.down.cut(after=2000)
        with pytest.raises(ToolError) as caught:
            await run(source, rows)
        assert caught.value.code in {Code.CONNECTION_LOST, Code.SOURCE_UNAVAILABLE}
        await proxy.heal()
        await _heals(source)
        assert (await run(source, rows)).rows == wide


async def test_a_slow_network_is_only_slow(server: Any) -> None:
    async with _behind_a_proxy(server, connect_timeout="5s", statement_timeout="5s") as (proxy, source):
        proxy.up.delay = proxy.down.delay = 0.05
        for _ in range(5):
            assert (await run(source, statement(source.engine, "select 1 as n"))).rows
