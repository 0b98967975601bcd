"""Turns at a pool: a model of the queue, and a client that floods beside one that does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.config.sources import PoolSettings
from gateway.database.pool import Pool
from gateway.database.waiters import Waiter, Waiters
from gateway.errors import Code, ToolError
from tests.database.fakes import FakeEngine, in_virtual_time
from tests.database.support import call_of

CLIENTS = st.sampled_from("abcd")
MEMBER: Any = object()


class Model(RuleBasedStateMachine):
    """Lists of lists: the first client is next, and goes to the end after its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.waiters = Waiters()
        self.rotation: list[tuple[str, list[Waiter]]] = []

    def teardown(self) -> None:
        self.waiters.fail_all(ToolError(Code.SOURCE_UNAVAILABLE, ""))
        for _, queue in self.rotation:
            for waiter in queue:
                assert waiter.cancelled() or waiter.exception() is not None
        assert len(self.waiters) == 0
        self.loop.close()

    def everybody(self) -> list[Waiter]:
        return [waiter for _, queue in self.rotation for waiter in queue]

    def order(self) -> list[Waiter]:
        """Everybody, as they would be served."""
        queues = [list(queue) for _, queue in self.rotation]
        rounds = max(map(len, queues), default=0)
        return [queue[index] for index in range(rounds) for queue in queues if index < len(queue)]

    def turn(self) -> Waiter | None:
        while self.rotation:
            client, queue = self.rotation.pop(0)
            while queue:
                waiter = queue.pop(0)
                if not waiter.done():
                    if queue:
                        self.rotation.append((client, queue))
                    return waiter
        return None

    @rule(client=CLIENTS)
    def come(self, client: str) -> None:
        waiter: Waiter = self.loop.create_future()
        self.waiters.add(waiter, client)
        for each, queue in self.rotation:
            if each == client:
                queue.append(waiter)
                return
        self.rotation.append((client, [waiter]))

    @precondition(lambda self: self.everybody())
    @rule(data=st.data(), is_forgotten=st.booleans())
    def leave(self, data: st.DataObject, is_forgotten: bool) -> None:
        waiter = data.draw(st.sampled_from(self.everybody()))
        waiter.cancel()
        if is_forgotten:
            self.waiters.forget(waiter)
            self.waiters.forget(waiter)
            self.rotation = [
                (client, left) for client, queue in self.rotation if (left := [w for w in queue if w is not waiter])
            ]

    @rule()
    def serve(self) -> None:
        waiter = self.turn()
        assert self.waiters.serve(MEMBER) is (waiter is not None)
        if waiter is not None:
            assert waiter.result() is MEMBER

    @rule()
    def fail(self) -> None:
        waiter = self.turn()
        self.waiters.fail_first(ToolError(Code.SOURCE_UNAVAILABLE, "down"))
        if waiter is not None:
            assert isinstance(waiter.exception(), ToolError)

    @invariant()
    def places_are_the_order(self) -> None:
        order = self.order()
        assert len(self.waiters) == len(order)
        assert [self.waiters.place(waiter) for waiter in order] == list(range(len(order)))


TestModel = Model.TestCase


@given(st.integers(1, 3), st.integers(5, 60), st.integers(1, 4))
def test_who_asks_for_little_waits_a_round_however_long_the_others_queue(size: int, flood: int, modest: int) -> None:
    async def scene() -> None:
        settings = PoolSettings.model_validate({"min": 0, "max": size, "max_waiting": 1000, "acquire_timeout": "900s"})
        pool = Pool(FakeEngine(), settings, 1.0)
        served: list[str] = []

        async def use(client: str) -> None:
            async with pool.lease(call_of(client)):
                served.append(client)
                await asyncio.sleep(1)

        tasks = [asyncio.create_task(use("flood")) for _ in range(flood + size)]
        await asyncio.sleep(0.5)
        tasks += [asyncio.create_task(use(f"modest-{number}")) for number in range(modest)]
        await asyncio.gather(*tasks)
        # Those who held connections come first; then one of the flood at most, and everybody who waits for a first.
        assert {each for each in served[size : size + 1 + modest] if each != "flood"} == {
            f"modest-{number}" for number in range(modest)
        }
        await pool.close(1)

    in_virtual_time(scene())


def test_a_long_queue_is_left_and_served_in_no_time() -> None:
    """Every step costs the same, however many wait."""

    def seconds(count: int) -> float:
        loop = asyncio.new_event_loop()
        waiters = Waiters()
        queue: list[Waiter] = [loop.create_future() for _ in range(count)]
        started = time.process_time()
        for number, waiter in enumerate(queue):
            waiters.add(waiter, number % 7)
        for waiter in queue[count // 2 :]:
            waiters.forget(waiter)
        while waiters.serve(MEMBER):
            pass
        loop.close()
        return time.process_time() - started

    few, many = min(seconds(2_000) for _ in range(5)), min(seconds(40_000) for _ in range(3))
    assert many < few * 20 * 4
