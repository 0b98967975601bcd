"""Shares and turns together, in front of a pool whose callers are cancelled, fail and run out of patience."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.config.sources import PoolSettings
from gateway.context import Call
from gateway.database.pool import Pool
from gateway.database.shares import Shares
from gateway.errors import Code, ToolError
from gateway.resilience.retry import Patience
from tests.database.fakes import FakeEngine, Fault, Script, in_virtual_time
from tests.database.support import call_of

SECONDS = st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 2.0])


@dataclass(frozen=True)
class Visit:
    """One caller of one client."""

    client: str
    start: float
    hold: float
    cancel: float | None
    fails: bool


VISITS = st.builds(Visit, st.sampled_from("abc"), SECONDS, SECONDS, st.none() | SECONDS, st.booleans())
FAULTS = st.builds(Fault, SECONDS, st.booleans())


@given(
    st.lists(VISITS, min_size=1, max_size=25), st.lists(FAULTS, max_size=8), st.integers(1, 4), st.none() | st.just(1)
)
def test_interleavings(visits: list[Visit], connects: list[Fault], most: int, share: int | None) -> None:
    settings = PoolSettings.model_validate(
        {"min": 0, "max": most, "max_per_client": share, "max_waiting": 5, "acquire_timeout": "1s"}
    )
    allowed = share or max(1, most - 1)

    async def scene() -> None:
        pool, shares = Pool(FakeEngine(Script(list(connects))), settings, 1.0), Shares(settings)
        holding: Counter[str] = Counter()

        async def visit(plan: Visit) -> None:
            await asyncio.sleep(plan.start)
            mine, patience = call_of(plan.client), Patience(1.0)
            arrived = asyncio.get_running_loop().time()
            try:
                async with shares.lease(mine, patience, pool.lease(mine, patience)):
                    assert asyncio.get_running_loop().time() - arrived <= 1.0 + 1e-6
                    holding[plan.client] += 1
                    assert holding[plan.client] <= allowed
                    try:
                        await asyncio.sleep(plan.hold)
                        if plan.fails:
                            raise ToolError(Code.INVALID_VALUE, "as written")
                    finally:
                        holding[plan.client] -= 1
                event("served")
            except ToolError as error:
                event(error.code)

        tasks = [asyncio.create_task(visit(plan)) for plan in visits]
        for task, plan in zip(tasks, visits, strict=True):
            if plan.cancel is not None:
                asyncio.get_running_loop().call_later(plan.start + plan.cancel, task.cancel)
        for task in (await asyncio.wait(tasks))[0]:
            if not task.cancelled():
                task.result()
        await asyncio.sleep(60)
        assert shares.waiting == len(shares._slots) == 0
        assert (pool.stats.active, pool.stats.waiting) == (0, 0)
        await pool.close(1)

    in_virtual_time(scene())


def test_patience_is_shared_by_both_queues() -> None:
    settings = PoolSettings.model_validate({"min": 0, "max": 2, "acquire_timeout": "3s"})

    async def scene() -> None:
        pool, shares, now = Pool(FakeEngine(), settings, 1.0), Shares(settings), asyncio.get_running_loop().time

        async def hold(client: str, seconds: float) -> None:
            async with shares.lease(call_of(client), Patience(3.0), pool.lease(call_of(client))):
                await asyncio.sleep(seconds)

        holders = [asyncio.create_task(hold("a", 1)), asyncio.create_task(hold("b", 9))]
        await asyncio.sleep(0.5)
        patience, started = Patience(3.0), now()
        mine = call_of("a")
        late = asyncio.create_task(hold("c", 9))
        with pytest.raises(ToolError) as caught:
            async with shares.lease(mine, patience, pool.lease(mine, patience)):
                pass
        assert caught.value.code is Code.POOL_TIMEOUT
        assert abs(now() - started - 3.0) < 1e-6
        await asyncio.gather(*holders, late)
        await pool.close(1)

    in_virtual_time(scene())


def test_waiting_for_ones_own_share_is_waiting_for_a_connection() -> None:
    """One wait for each call that waited, wherever it did; one obtained connection for each lease."""
    settings = PoolSettings.model_validate({"min": 0, "max": 2, "acquire_timeout": "3s"})

    async def scene() -> None:
        pool, shares = Pool(FakeEngine(), settings, 1.0), Shares(settings)

        async def hold(mine: Call, seconds: float) -> None:
            async with shares.lease(mine, Patience(3.0), pool.lease(mine, Patience(3.0))):
                await asyncio.sleep(seconds)

        first, second, third = (call_of("a") for _ in range(3))
        await asyncio.gather(hold(first, 1), hold(second, 9), hold(third, 1), return_exceptions=True)
        waits = [[(mark[0], mark[3]) for mark in each.marks] for each in (first, second, third)]
        assert waits == [[("wait", "")], [("wait", "")], [("wait", "pool_timeout")]]
        assert first.marks[0][4] is not None, "its connection was opened for it"
        assert second.marks[0][4] is None
        assert (pool.times.wait.count, pool.times.timeouts) == (2, 1)
        await hold(call_of("a"), 1)
        assert pool.times.wait.counts[0] >= 1, "one was at hand"
        assert pool.times.wait.count == pool.times.use.count == 3
        await pool.close(1)

    in_virtual_time(scene())
