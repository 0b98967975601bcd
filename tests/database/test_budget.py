"""A budget: never exceeded, never leaked, and nobody starves, in interleavings that hypothesis thinks of."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.sources import PoolSettings
from gateway.database.budget import Budget
from gateway.database.pool import Pool
from gateway.errors import ToolError
from tests.database.fakes import FakeEngine, Fault, Script, in_virtual_time
from tests.database.support import ROUNDS, call, until

_SECONDS = st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0])
_FAULTS = st.builds(Fault, _SECONDS, st.booleans())
_VISITS = st.tuples(st.integers(0, 2), _SECONDS, _SECONDS, st.none() | _SECONDS, st.booleans())


class World:
    """Pools that share a budget, over engines that count together."""

    def __init__(self, limit: int, pools: int, scripts: list[list[Fault]] | None = None, **values: object) -> None:
        self.budget = Budget(limit)
        self.engines = [FakeEngine(Script(*(list(each) for each in scripts or ()))) for _ in range(pools)]
        limits = PoolSettings.model_validate({"min": 0, "max": limit} | values)
        self.pools = [Pool(engine, limits, 1.0, budget=self.budget) for engine in self.engines]

    @property
    def open(self) -> int:
        return sum(engine.open for engine in self.engines)

    async def close(self) -> None:
        await asyncio.gather(*(pool.close(1) for pool in self.pools))
        assert (self.open, self.budget.taken) == (0, 0)


async def visit(pool: Pool, seconds: float, limit: float = 60.0) -> None:
    async with pool.lease(call(limit)):
        await asyncio.sleep(seconds)


@settings(max_examples=ROUNDS)
@given(st.integers(1, 4), st.lists(_VISITS, max_size=25), st.lists(_FAULTS, max_size=6))
def test_whatever_happens_the_limit_holds_and_every_place_comes_back(
    limit: int, visits: list[tuple[int, float, float, float | None, bool]], faults: list[Fault]
) -> None:
    async def scene() -> None:
        world = World(limit, 3, [faults], min=1, acquire_timeout="20s")
        for pool in world.pools:
            pool.start()
        most = 0

        async def client(number: int, start: float, seconds: float, cancel: float | None, *, is_bad: bool) -> None:
            nonlocal most
            await asyncio.sleep(start)

            async def use() -> None:
                nonlocal most
                async with world.pools[number].lease(call()) as member:
                    most = max(most, world.open)
                    member.is_dirty = is_bad
                    await asyncio.sleep(seconds)

            task = asyncio.create_task(use())
            await asyncio.wait({task}, timeout=cancel)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        tasks = [client(each[0], *each[1:4], is_bad=each[4]) for each in visits]
        await asyncio.gather(*tasks)
        assert most <= limit
        for engine in world.engines:
            engine.script.connects.clear()
        await asyncio.sleep(40)  # every pause of a breaker is over
        for pool in world.pools:
            await visit(pool, 0)
        await asyncio.sleep(5)
        assert world.open == world.budget.taken <= limit
        assert sum(pool.stats.active + pool.stats.waiting for pool in world.pools) == 0
        await world.close()

    in_virtual_time(scene())


def test_an_idle_connection_is_given_up_for_another_pool() -> None:
    async def scene() -> None:
        world = World(2, 3)
        await visit(world.pools[0], 0)
        await asyncio.sleep(1)
        await visit(world.pools[1], 0)
        await visit(world.pools[2], 0)
        assert [engine.open for engine in world.engines] == [0, 1, 1]  # the longest idle one went
        await world.close()

    in_virtual_time(scene())


@pytest.mark.parametrize(
    ("limit", "crowds", "logins"),
    [
        (2, (20, 1), (2, 1)),
        (10, (40, 1, 1), (10, 1, 1)),
        (10, (40, 20, 5, 1), (10, 3, 3, 1)),
        (1, (5, 5), None),
        (2, (5, 9, 1), None),
    ],
)
def test_who_has_few_callers_waits_no_longer_and_nobody_logs_in_for_each_call(
    limit: int, crowds: tuple[int, ...], logins: tuple[int, ...] | None
) -> None:
    """Where there are fewer connections than busy pools they take turns, which costs logins."""

    async def scene() -> None:
        world = World(limit, len(crowds), acquire_timeout="5s", max_waiting=1000)
        waits: list[list[float]] = [[] for _ in crowds]
        loop = asyncio.get_running_loop()

        async def client(number: int) -> None:
            while loop.time() < 20:
                began = loop.time()
                async with world.pools[number].lease(call()):
                    waits[number].append(loop.time() - began)
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(client(number) for number, crowd in enumerate(crowds) for _ in range(crowd)))
        assert min(map(len, waits)) > 100
        assert max(map(max, waits)) < 0.5
        if logins is not None:
            opened = [len(engine.connections) for engine in world.engines]
            assert all(few <= most for few, most in zip(opened, logins, strict=True)), opened
        await world.close()

    in_virtual_time(scene())


def test_an_idle_connection_that_was_used_just_now_stays_while_the_pools_are_even() -> None:
    async def scene() -> None:
        world = World(2, 2)
        for pool in world.pools:
            pool.start()
        await visit(world.pools[1], 0)
        waiting = [asyncio.create_task(visit(world.pools[0], 2)) for _ in range(2)]
        await asyncio.sleep(0.2)
        assert [engine.open for engine in world.engines] == [1, 1]
        await asyncio.sleep(1.5)  # nobody used it any more
        assert [engine.open for engine in world.engines] == [2, 0]
        await asyncio.gather(*waiting)
        await world.close()

    in_virtual_time(scene())


def test_pools_with_many_callers_settle_and_do_not_log_in_for_each_call() -> None:
    async def scene() -> None:
        world = World(10, 2, max_waiting=1000, acquire_timeout="20s")
        await asyncio.gather(*(visit(pool, 0.1) for pool, _ in itertools.product(world.pools, range(200))))
        assert all(len(engine.connections) <= 16 for engine in world.engines)
        await world.close()

    in_virtual_time(scene())


def test_one_place_serves_three_pools_in_turn() -> None:
    async def scene() -> None:
        world = World(1, 3, acquire_timeout="10s")
        await asyncio.gather(*(visit(pool, 0.1) for pool, _ in itertools.product(world.pools, range(20))))
        assert max(engine.most for engine in world.engines) == 1
        await world.close()

    in_virtual_time(scene())


def test_a_pool_that_cannot_connect_keeps_no_place() -> None:
    async def scene() -> None:
        world = World(1, 2, [[]], acquire_timeout="5s")
        world.engines[0].script.connects = [Fault(0.0, is_failing=True)] * 3
        tasks = [asyncio.create_task(visit(pool, 0.01)) for pool in world.pools * 5]
        await asyncio.wait(tasks)
        refused = [task.exception() for task in tasks[::2] if task.exception()]
        assert refused
        assert all(isinstance(error, ToolError) for error in refused)
        assert not any(task.exception() for task in tasks[1::2])
        await until(lambda: not world.engines[0].script.connects)
        await visit(world.pools[0], 0)
        await world.close()

    in_virtual_time(scene())
