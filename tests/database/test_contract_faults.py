"""What a server's own troubles may cost, the same on every engine that has a server."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from gateway.errors import ToolError
from tests.database.support import reached, run, statement, until

POOL = {"min": 1, "max": 2, "acquire_timeout": "1s"}
LIMITS = {"connect_timeout": "500ms", "statement_timeout": "500ms", "pool": POOL}


@pytest.fixture(params=["own_postgresql", "own_mariadb", "own_oracle"])
def server(request: pytest.FixtureRequest) -> Any:
    """A server of this test's own, of each engine in turn."""
    return request.getfixturevalue(request.param)


async def _outcomes(source: Any, count: int) -> list[Any]:
    item = statement(source.engine, "select 1 as n")
    outcomes: list[Any] = await asyncio.gather(*(run(source, item) for _ in range(count)), return_exceptions=True)
    return outcomes


async def _until_served(source: Any) -> None:
    async with asyncio.timeout(15):
        while isinstance((await _outcomes(source, 1))[0], ToolError):  # noqa: ASYNC110 - a caller can only ask again
            await asyncio.sleep(0.05)


async def test_a_restart_needs_no_restart_of_ours(server: Any) -> None:
    async with reached(server.settings(**LIMITS)) as source:
        assert (await _outcomes(source, 1))[0].rows
        await asyncio.to_thread(server.stop)
        down = await _outcomes(source, 4)
        assert all(isinstance(error, ToolError) and error.is_retryable for error in down), down
        assert all(server.host not in str(error) for error in down)
        await asyncio.to_thread(server.start)
        await _until_served(source)
        await until(lambda: source.is_up and source.stats.active == 0)


async def test_a_frozen_server_holds_nobody_and_thaws(server: Any) -> None:
    async with reached(server.settings(**LIMITS)) as source:
        assert (await _outcomes(source, 1))[0].rows
        server.signal_all(signal.SIGSTOP)
        try:
            started = time.monotonic()
            frozen = await _outcomes(source, 8)
            assert time.monotonic() - started < 4.0
            assert all(isinstance(error, ToolError) for error in frozen), frozen
        finally:
            server.signal_all(signal.SIGCONT)
        await _until_served(source)
        await until(lambda: source.stats.active == 0 and source.stats.waiting == 0)
