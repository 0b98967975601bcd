"""What the pool promises, on every engine in turn: limits, order, checks, idling, ageing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from gateway.context import Call
from gateway.database.session import Session
from gateway.errors import Code, ToolError
from tests.database.conftest import Database
from tests.database.support import call, reached, run, statement, until


def another() -> Call:
    """A call of another client."""
    mine = call()
    return replace(mine, principal=replace(mine.principal, client_id="another"))


def _connection(session: Session) -> object:
    return session._member.connection


async def test_the_maximum_is_a_limit_and_waiters_are_served_in_order(database: Database) -> None:
    async with reached(
        database.settings(pool={"min": 1, "max": 2, "max_per_client": 2, "acquire_timeout": "0.3s"})
    ) as source:
        served: list[int] = []

        async def wait_in_line(number: int) -> None:
            async with source.lease(call(), patience=None):
                served.append(number)

        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(source.lease(call()))
            assert source.stats.active == 2
            with pytest.raises(ToolError) as caught:
                await wait_in_line(0)
            assert caught.value.code is Code.POOL_TIMEOUT
            line = []
            for number in range(1, 6):
                line.append(asyncio.create_task(wait_in_line(number)))
                await until(lambda number=number: source.stats.waiting == number)  # type: ignore[misc]
        await asyncio.gather(*line)
        assert served == [1, 2, 3, 4, 5]


async def test_a_queue_that_is_full_refuses_at_once(database: Database) -> None:
    pool = {"min": 1, "max": 1, "acquire_timeout": "5s", "max_waiting": 1}
    async with reached(database.settings(pool=pool)) as source:
        async with source.lease(call()):
            waiting = asyncio.create_task(run(source, statement(source.engine, "select 1 as n")))
            await until(lambda: source.stats.waiting == 1)
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, "select 1 as n"))
            assert caught.value.code is Code.POOL_EXHAUSTED
            assert caught.value.retry_after
        assert (await waiting).rows


async def test_one_client_leaves_a_connection_to_the_others(database: Database) -> None:
    async with reached(
        database.settings(pool={"min": 1, "max": 2, "max_waiting": 2, "acquire_timeout": "10s"})
    ) as source:
        flood = []
        async with source.lease(call()):
            for number in range(1, 3):
                flood.append(asyncio.create_task(run(source, statement(source.engine, "select 1 as n"))))
                await until(lambda number=number: source.stats.waiting == number)  # type: ignore[misc]
            with pytest.raises(ToolError) as caught:
                await run(source, statement(source.engine, "select 1 as n"))
            assert caught.value.code is Code.POOL_EXHAUSTED
            async with source.lease(another()):
                assert source.stats.active == 2
            flood.pop(0).cancel()
            await until(lambda: source.stats.waiting == 1)
        assert (await flood[0]).rows
        await until(lambda: source.stats.waiting == source.stats.active == 0)


async def test_idle_connections_beyond_the_minimum_are_closed(database: Database) -> None:
    pool = {"min": 1, "max": 3, "max_per_client": 3, "idle_timeout": "200ms"}
    async with reached(database.settings(pool=pool)) as source:
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(source.lease(call()))
        await until(lambda: source.stats.idle == 1 and source.stats.active == 0)
        assert (await run(source, statement(source.engine, "select 1 as n"))).rows


async def test_old_connections_are_replaced(database: Database) -> None:
    async with reached(database.settings(pool={"min": 1, "max": 1, "max_lifetime": "300ms"})) as source:
        async with source.lease(call()) as session:
            first = _connection(session)
        second = first
        async with asyncio.timeout(10):
            while second is first:
                async with source.lease(call()) as session:
                    second = _connection(session)
                await asyncio.sleep(0.01)


async def test_a_connection_that_idled_is_checked_before_it_is_lent(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reached(database.settings(pool={"min": 1, "max": 1, "ping_after": "50ms"})) as source:
        async with source.lease(call()) as session:
            kind = type(_connection(session))
        pings = 0
        ping = kind.ping  # type: ignore[attr-defined]

        async def counted(connection: object) -> None:
            nonlocal pings
            pings += 1
            await ping(connection)

        monkeypatch.setattr(kind, "ping", counted)
        async with asyncio.timeout(10):
            while not pings:
                await asyncio.sleep(0.1)  # what is tested is what happens after idling
                assert (await run(source, statement(source.engine, "select 1 as n"))).rows
