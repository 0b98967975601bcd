"""The pool: limits, order, upkeep, and interleavings that hypothesis thinks of."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.config.sources import PoolSettings
from gateway.database.pool import Pool
from gateway.errors import Code, ToolError
from gateway.resilience.breaker import State
from gateway.resilience.retry import Patience
from tests.database.fakes import FakeConnection, FakeEngine, Fault, Script, in_virtual_time
from tests.database.support import call, until


def limits(**values: Any) -> PoolSettings:
    return PoolSettings.model_validate({"min": 0, "max": 2} | values)


def pool_of(engine: FakeEngine, connect_timeout: float = 1.0, **values: Any) -> Pool:
    return Pool(engine, limits(**values), connect_timeout)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scene()

    in_virtual_time(whole())


async def fails_with(code: Code, pool: Pool, seconds: float = 60.0) -> ToolError:
    with pytest.raises(ToolError) as caught:
        async with pool.lease(call(seconds)):
            pass
    assert caught.value.code is code
    return caught.value


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_minimum_is_opened_at_the_start() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, min=2, max=5)
        pool.start()
        await asyncio.sleep(0.1)
        assert (pool.stats.idle, pool.stats.opening, engine.most) == (2, 0, 2)
        assert pool.is_up
        await pool.close(1)
        assert engine.open == 0

    play(scene)


def test_a_full_pool_names_the_pool() -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(), max=1, acquire_timeout="3s")
        async with pool.lease(call()):
            started = now()
            await fails_with(Code.POOL_TIMEOUT, pool)
            assert now() - started == pytest.approx(3)
            started = now()
            await fails_with(Code.POOL_TIMEOUT, pool, seconds=0.5)
            assert now() - started == pytest.approx(0.5)
        await pool.close(1)

    play(scene)


def test_all_attempts_share_one_patience() -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(), max=1, acquire_timeout="3s")
        patience = Patience(3.0)
        async with pool.lease(call()):
            waiting = asyncio.create_task(pool.lease(call(), patience).__aenter__())
            await asyncio.sleep(2)
            pool._waiters.fail_all(ToolError(Code.CONNECT_TIMEOUT, ""))
            with pytest.raises(ToolError):
                await waiting
            started = now()
            with pytest.raises(ToolError) as caught:
                async with pool.lease(call(), patience):
                    pass
            assert caught.value.code is Code.POOL_TIMEOUT
            assert now() - started == pytest.approx(1)
            assert patience.left == pytest.approx(0)
        await pool.close(1)

    play(scene)


def test_slow_connecting_names_connecting() -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(Script([Fault(100)])), connect_timeout=10, max=1, acquire_timeout="3s")
        started = now()
        await fails_with(Code.CONNECT_TIMEOUT, pool)
        assert now() - started == pytest.approx(3)
        await pool.close(1)

    play(scene)


def test_connecting_has_a_limit_of_its_own_even_for_the_deaf() -> None:
    async def scene() -> None:
        engine = FakeEngine(Script([Fault(50, is_deaf=True)]))
        pool = pool_of(engine, connect_timeout=1, max=1, acquire_timeout="10s")
        started = now()
        error = await fails_with(Code.CONNECT_TIMEOUT, pool)
        assert now() - started == pytest.approx(1.5)
        assert error.is_retryable
        await asyncio.sleep(60)
        assert engine.open == 1  # the late one was dropped, the retry was kept
        await pool.close(1)
        assert engine.open == 0

    play(scene)


def test_waiters_are_bounded() -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(), max=2, max_waiting=3, acquire_timeout="3s")
        async with pool.lease(call()), pool.lease(call()):
            waiting = [asyncio.create_task(fails_with(Code.POOL_TIMEOUT, pool)) for _ in range(3)]
            await asyncio.sleep(0)
            started = now()
            error = await fails_with(Code.POOL_EXHAUSTED, pool)
            assert now() == started
            assert error.retry_after == 3
            assert pool.stats.waiting == 3
            await asyncio.gather(*waiting)
        await pool.close(1)

    play(scene)


def test_nobody_may_wait_but_everybody_may_connect() -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(Script([Fault(0.1)] * 2)), max=2, max_waiting=0)

        async def use() -> None:
            async with pool.lease(call()):
                await asyncio.sleep(1)

        users = [asyncio.create_task(use()) for _ in range(2)]
        await asyncio.sleep(0)
        await fails_with(Code.POOL_EXHAUSTED, pool)
        await asyncio.gather(*users)
        await pool.close(1)

    play(scene)


def test_the_first_in_is_the_first_served() -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(), max=1, acquire_timeout="60s")
        order: list[int] = []

        async def use(number: int) -> None:
            async with pool.lease(call()):
                order.append(number)
                await asyncio.sleep(0.1)

        users = []
        for number in range(10):
            users.append(asyncio.create_task(use(number)))
            await asyncio.sleep(0.001)
        users[3].cancel()
        users[0].cancel()
        await asyncio.gather(*users, return_exceptions=True)
        assert order == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        await pool.close(1)

    play(scene)


def test_a_source_that_is_down_answers_at_once() -> None:
    async def scene() -> None:
        engine = FakeEngine(Script([Fault(is_failing=True)] * 6))
        troubles: list[ToolError] = []
        ups: list[float] = []
        pool = Pool(engine, limits(), 1.0, on_up=lambda: ups.append(now()), on_down=troubles.append)
        pool.start()
        await asyncio.sleep(0.01)
        assert not pool.is_up
        await fails_with(Code.SOURCE_UNAVAILABLE, pool)  # by the next attempt, which comes soon
        assert now() <= 0.11
        await asyncio.sleep(1.5)
        assert pool.breaker.state is State.OPEN
        started = now()
        error = await fails_with(Code.SOURCE_UNAVAILABLE, pool)
        assert now() == started
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 1.6
        await asyncio.sleep(10)
        assert len(troubles) == 6  # 100 ms doubled six times is over in 6.4 s
        assert len(ups) == 1
        assert pool.is_up
        async with pool.lease(call()):
            pass
        await pool.close(1)

    play(scene)


def test_a_probe_that_hangs_holds_nobody() -> None:
    async def scene() -> None:
        script = Script([Fault(is_failing=True)] * 5 + [Fault(1.0, is_failing=True), Fault(0.5)])
        engine = FakeEngine(script)
        pool = pool_of(engine, min=1, max=4)
        pool.start()
        await until(lambda: pool.breaker.state is State.HALF_OPEN)
        assert pool.stats.opening == 1
        started = now()
        error = await fails_with(Code.SOURCE_UNAVAILABLE, pool)
        assert now() == started
        assert error.retry_after is not None
        assert error.retry_after > 0.1
        await until(lambda: pool.is_up)
        assert pool.breaker.state is State.CLOSED
        await until(lambda: pool.stats.idle == 1)
        await pool.close(1)

    play(scene)


def test_after_a_loss_idle_connections_are_checked_before_they_are_lent() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, min=4, max=4)
        pool.start()
        await asyncio.sleep(1)
        async with pool.lease(call()) as member:
            member.connection.die()  # type: ignore[attr-defined]
        engine.script.cares += [Fault(is_failing=True)] * 3  # what the restart left of the others
        async with pool.lease(call()) as member:
            assert engine.connections.index(member.connection) >= 4  # type: ignore[arg-type]
        await until(lambda: pool.stats.idle == 4)
        for _ in range(2):
            async with pool.lease(call()):
                pass
        pings = sum(connection.pings for connection in engine.connections)
        assert 1 <= pings <= 3, "each at most once, and none that was opened since"
        await pool.close(1)

    play(scene)


def test_a_loss_is_known_before_the_socket_closes() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, min=2, max=2)
        pool.start()
        await asyncio.sleep(1)
        async with pool.lease(call()) as member:
            member.is_lost = member.is_dirty = True
        async with pool.lease(call()) as other:
            assert other is not member
            assert other.connection.pings == 1  # type: ignore[attr-defined]
        await until(lambda: member.connection.is_closed)
        await pool.close(1)

    play(scene)


def test_the_pause_between_attempts_grows_and_is_capped() -> None:
    async def scene() -> None:
        moments: list[float] = []

        class Refusing(FakeEngine):
            async def connect(self) -> FakeConnection:
                moments.append(now())
                raise ConnectionError

        pool = Pool(Refusing(), limits(min=2), 1.0)
        pool.start()
        await asyncio.sleep(120)
        pauses = [after - before for before, after in itertools.pairwise(moments) if after > before]
        assert 0.05 <= pauses[0] <= 0.1
        assert all(pause <= 5.0 for pause in pauses)
        assert pauses[-1] >= 2.5
        assert len(pauses) < 60
        await pool.close(1)

    play(scene)


def test_a_long_idle_connection_is_checked_before_use() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, max=1, ping_after="30s")
        async with pool.lease(call()):
            pass
        async with pool.lease(call()):
            pass
        assert engine.connections[0].pings == 0
        await asyncio.sleep(31)
        async with pool.lease(call()) as member:
            assert member.connection is engine.connections[0]
        assert engine.connections[0].pings == 1
        await asyncio.sleep(31)
        engine.script.cares.append(Fault(is_failing=True))
        async with pool.lease(call()) as member:
            assert member.connection is engine.connections[1]
        await pool.close(1)

    play(scene)


def test_a_check_that_hangs_costs_one_limit() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, max=1, ping_after="30s", acquire_timeout="10s")
        async with pool.lease(call()):
            pass
        await asyncio.sleep(31)
        engine.script.cares.append(Fault(1000, is_deaf=True))
        started = now()
        async with pool.lease(call()) as member:
            assert member.connection is engine.connections[1]
        assert now() - started <= 2
        assert engine.open == 1
        await pool.close(1)
        await asyncio.sleep(1000)

    play(scene)


def test_idle_connections_beyond_the_minimum_go() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, min=1, max=5, idle_timeout="60s", max_lifetime="24h")
        pool.start()
        members = [pool.lease(call()) for _ in range(5)]
        for member in members:
            await member.__aenter__()
        for member in members:
            await member.__aexit__(None, None, None)
        await asyncio.sleep(50)
        assert pool.stats.idle == 5
        await asyncio.sleep(15)
        assert pool.stats.idle == 1
        assert engine.open == 1
        await pool.close(1)

    play(scene)


def test_old_connections_are_replaced_at_different_times() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, min=8, max=10, max_lifetime="100s", idle_timeout="1h")
        pool.start()
        await asyncio.sleep(89)
        assert len(engine.connections) == 8
        opened = set()
        for _ in range(46):
            await asyncio.sleep(0.5)
            opened.add(len(engine.connections))
        assert len(opened) > 3  # by chance eight ages fall on two of forty moments once in some ten million runs
        assert len(engine.connections) == 16
        assert engine.open == 8
        assert engine.most <= 10
        await pool.close(1)

    play(scene)


def test_a_dead_connection_is_replaced_without_being_asked_for() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, min=2, max=4)
        pool.start()
        await asyncio.sleep(1)
        for connection in list(engine.connections):
            connection.die()
        await asyncio.sleep(2)
        assert engine.open == 2
        assert pool.stats.idle == 2
        await pool.close(1)

    play(scene)


def test_a_soiled_connection_is_reset_before_the_next_user() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, max=1)
        async with pool.lease(call()) as member:
            engine.connections[0].needs_reset = True
        async with pool.lease(call()) as member:
            assert member.connection is engine.connections[0]
            member.is_dirty = True
        assert engine.connections[0].resets == 1
        engine.script.cares.append(Fault(is_failing=True))
        async with pool.lease(call()) as member:
            assert member.connection is engine.connections[1]
        assert engine.connections[0].is_closed
        await pool.close(1)

    play(scene)


def test_closing_waits_for_what_is_lent_and_then_no_longer() -> None:
    async def scene() -> None:
        engine = FakeEngine()
        pool = pool_of(engine, max=3)
        async with pool.lease(call()):
            closing = asyncio.create_task(pool.close(10))
            await asyncio.sleep(1)
            assert not closing.done()
            await fails_with(Code.SOURCE_UNAVAILABLE, pool)
        await asyncio.sleep(0.1)
        assert closing.done()
        assert engine.open == 0

        engine = FakeEngine()
        pool = pool_of(engine, max=1)
        async with pool.lease(call()):
            waiting = asyncio.create_task(fails_with(Code.SOURCE_UNAVAILABLE, pool))
            await asyncio.sleep(0)
            started = now()
            await pool.close(10)
            assert now() - started == pytest.approx(10)
            assert engine.open == 0
            await waiting

    play(scene)


def test_closing_while_connecting_leaves_nothing_open() -> None:
    async def scene() -> None:
        engine = FakeEngine(Script([Fault(5), Fault(5, is_deaf=True)]))
        pool = pool_of(engine, connect_timeout=20, min=2)
        pool.start()
        await asyncio.sleep(1)
        await pool.close(1)
        assert now() < 6
        await asyncio.sleep(30)
        assert engine.open == 0

    play(scene)


# Interleavings

_SECONDS = st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 2.0, 12.0])
_FAULTS = st.builds(Fault, _SECONDS, st.booleans(), st.sampled_from([False, False, False, True]))


@dataclass(frozen=True)
class Visit:
    """One caller: comes, holds, perhaps is cancelled, and leaves the connection in some state."""

    start: float
    hold: float
    cancel: float | None
    leaves: str


_VISITS = st.builds(
    Visit,
    st.sampled_from([0.0, 0.0, 0.001, 0.3, 1.0, 40.0]),
    _SECONDS,
    st.none() | _SECONDS,
    st.sampled_from(["clean", "clean", "soiled", "failed", "dead"]),
)


@dataclass
class World:
    """A pool under observation."""

    engine: FakeEngine
    pool: Pool
    settings: PoolSettings
    queue: list[int] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    async def visit(self, number: int, plan: Visit) -> None:
        await asyncio.sleep(plan.start)
        self.queue.append(number)
        arrived = now()
        self.check()
        try:
            async with self.pool.lease(call(1000)) as member:
                self.check()
                self.served(number, arrived)
                await self.use(member, plan)
        except ToolError as error:
            assert now() - arrived <= self.settings.acquire_timeout + 1e-6
            self.outcomes.append(error.code)
        finally:
            if number in self.queue:
                self.queue.remove(number)

    def served(self, number: int, arrived: float) -> None:
        assert now() - arrived <= self.settings.acquire_timeout + 1e-6
        self.queue.remove(number)
        self.outcomes.append("served")

    async def use(self, member: Any, plan: Visit) -> None:
        connection: FakeConnection = member.connection
        assert not connection.is_used
        assert not connection.is_closed
        assert not connection.is_soiled
        assert not member.is_dirty
        connection.is_used = True
        member.is_dirty = True
        try:
            await asyncio.sleep(plan.hold)
            member.is_dirty = plan.leaves == "failed"
        finally:
            connection.is_used = False
            if plan.leaves == "soiled":
                connection.is_soiled = connection.needs_reset = True
            elif plan.leaves == "failed" or member.is_dirty:
                connection.is_soiled = True
            elif plan.leaves == "dead":
                connection.die()

    def check(self) -> None:
        stats = self.pool.stats
        assert self.engine.open <= self.settings.max + self.deaf
        assert stats.active + stats.idle + stats.opening <= self.settings.max
        assert stats.waiting <= self.settings.max_waiting + self.settings.max
        assert min(stats.active, stats.idle, stats.opening, stats.waiting) >= 0

    deaf: int = 0


@given(
    st.lists(_VISITS, min_size=1, max_size=25),
    st.lists(_FAULTS, max_size=12),
    st.lists(_FAULTS, max_size=12),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_interleavings(
    visits: list[Visit], connects: list[Fault], cares: list[Fault], least: int, most: int, max_waiting: int
) -> None:
    async def scene() -> None:
        settings = limits(
            min=min(least, most), max=most, max_waiting=max_waiting, acquire_timeout="3s", idle_timeout="60s"
        )
        engine = FakeEngine(Script(list(connects), list(cares)))
        # one that ignores its cancellation opens for a moment after it was given up
        world = World(engine, Pool(engine, settings, 1.0), settings, deaf=sum(fault.is_deaf for fault in connects))
        world.pool.start()

        async def watch() -> None:
            while True:
                world.check()
                await asyncio.sleep(0.05 if now() < 15 else 5)

        watcher = asyncio.create_task(watch())
        tasks = [asyncio.create_task(world.visit(number, plan)) for number, plan in enumerate(visits)]
        loop = asyncio.get_running_loop()
        for task, plan in zip(tasks, visits, strict=True):
            if plan.cancel is not None:
                loop.call_later(plan.start + plan.cancel, task.cancel)
        done, _ = await asyncio.wait(tasks)
        for task in done:
            if not task.cancelled():
                task.result()
        for outcome in set(world.outcomes):
            event(outcome)
        await asyncio.sleep(100)  # every written fault is over, every pause too
        stats = world.pool.stats
        assert (stats.active, stats.opening, stats.waiting) == (0, 0, 0)
        assert world.pool.is_up
        assert settings.min <= stats.idle == engine.open <= max(settings.min, 1)
        engine.script.connects.clear()  # a pool without a minimum has not met them all
        engine.script.cares.clear()
        async with world.pool.lease(call()) as member:
            assert not member.is_dirty
        watcher.cancel()
        await asyncio.wait({watcher})
        assert watcher.cancelled(), watcher.exception()
        await world.pool.close(1)
        assert engine.open == 0
        await asyncio.sleep(20)

    play(scene)


@given(st.lists(st.tuples(_SECONDS, _SECONDS, st.none() | _SECONDS), min_size=2, max_size=20))
def test_order_holds_whoever_gives_up(plans: list[tuple[float, float, float | None]]) -> None:
    async def scene() -> None:
        pool = pool_of(FakeEngine(), max=1, max_waiting=100, acquire_timeout="5s")
        queue: list[int] = []

        async def visit(number: int, start: float, hold: float) -> None:
            await asyncio.sleep(start)
            queue.append(number)
            try:
                async with pool.lease(call(1000)):
                    before = queue[: queue.index(number)]
                    assert all(tasks[other].cancelling() for other in before), before
                    queue.remove(number)
                    await asyncio.sleep(hold)
            except ToolError:
                pass
            finally:
                if number in queue:
                    queue.remove(number)

        tasks = [asyncio.create_task(visit(number, *plan[:2])) for number, plan in enumerate(plans)]
        for task, (start, _, cancel) in zip(tasks, plans, strict=True):
            if cancel is not None:
                asyncio.get_running_loop().call_later(start + cancel, task.cancel)
        for task in (await asyncio.wait(tasks))[0]:
            if not task.cancelled():
                task.result()
        await pool.close(1)

    play(scene)
