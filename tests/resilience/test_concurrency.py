"""Slots against their promises, whoever comes, leaves, is cancelled or runs out of time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gateway.resilience.concurrency import Slots
from tests.database.fakes import in_virtual_time

LIMITS = {"a": 1, "b": 2, "c": 3}
SECONDS = st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 2.0])


@dataclass(frozen=True)
class Visit:
    """One caller: comes, waits for so long, holds, perhaps is cancelled."""

    key: str
    start: float
    patience: float
    hold: float
    cancel: float | None


VISITS = st.builds(Visit, st.sampled_from("abc"), SECONDS, SECONDS, SECONDS, st.none() | SECONDS)


class Scene:
    """Callers at one set of slots, and what they see."""

    def __init__(self, max_waiting: int) -> None:
        self.slots = Slots()
        self.max_waiting = max_waiting
        self.running: defaultdict[str, int] = defaultdict(int)
        self.queue: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.visits: list[Visit] = []

    async def visit(self, number: int, plan: Visit) -> None:
        await asyncio.sleep(plan.start)
        if not self.slots.take(plan.key, LIMITS[plan.key]) and not await self._wait(number, plan):
            return
        try:
            self.running[plan.key] += 1
            self.check()
            await asyncio.sleep(plan.hold)
        finally:
            self.running[plan.key] -= 1
            self.slots.release(plan.key)

    async def _wait(self, number: int, plan: Visit) -> bool:
        now = asyncio.get_running_loop().time
        started, was_full = now(), self.slots.waiting(plan.key) >= self.max_waiting
        self.queue.append(number)
        try:
            admitted = await self.slots.wait(plan.key, plan.patience, self.max_waiting)
            event("admitted" if admitted else "full" if was_full else "late")
            assert now() - started <= plan.patience + 1e-9
            if was_full:
                assert not admitted
                assert now() == started
            if admitted:
                before = [each for each in self.queue[: self.queue.index(number)] if self.visits[each].key == plan.key]
                assert all(self.tasks[each].cancelling() or self._is_late(each) for each in before)
            return admitted
        finally:
            self.queue.remove(number)

    def _is_late(self, number: int) -> bool:
        plan = self.visits[number]
        return asyncio.get_running_loop().time() >= plan.start + plan.patience

    def check(self) -> None:
        for key, limit in LIMITS.items():
            assert self.running[key] <= self.slots.held(key) <= limit
            assert self.slots.held(key) == limit or not self.slots.waiting(key), "a place is free and somebody waits"
            assert self.slots.waiting(key) <= self.max_waiting
        assert len(self.slots) <= len(LIMITS)


@given(st.lists(VISITS, min_size=1, max_size=30), st.integers(0, 6))
def test_interleavings(visits: list[Visit], max_waiting: int) -> None:
    async def play() -> None:
        scene = Scene(max_waiting)
        scene.visits = visits
        loop = asyncio.get_running_loop()
        scene.tasks = [asyncio.create_task(scene.visit(number, plan)) for number, plan in enumerate(visits)]
        for task, plan in zip(scene.tasks, visits, strict=True):
            if plan.cancel is not None:
                loop.call_later(plan.start + plan.cancel, task.cancel)
        done, _ = await asyncio.wait(scene.tasks)
        for task in done:
            if not task.cancelled():
                task.result()
        assert len(scene.slots) == 0
        assert [scene.slots.waiting(key) for key in LIMITS] == [0, 0, 0]

    in_virtual_time(play())


def test_a_place_that_was_given_to_a_cancelled_caller_goes_on_to_the_next() -> None:
    async def play() -> None:
        slots = Slots()
        assert slots.take("a", 1)
        first, second = (asyncio.create_task(slots.wait("a", 10, 10)) for _ in range(2))
        await asyncio.sleep(0)
        slots.release("a")
        first.cancel()  # in the same moment: the place is its own already
        assert await second
        with pytest.raises(asyncio.CancelledError):
            await first
        slots.release("a")
        assert len(slots) == 0

    in_virtual_time(play())


def test_nobody_overtakes_who_waits() -> None:
    async def play() -> None:
        slots = Slots()
        assert slots.take("a", 1)
        waiting = asyncio.create_task(slots.wait("a", 10, 10))
        await asyncio.sleep(0)
        slots.release("a")
        assert not slots.take("a", 1)
        assert await waiting
        assert slots.take("b", 1)

    in_virtual_time(play())


def test_ten_thousand_keys_leave_nothing() -> None:
    slots = Slots()
    for number in range(10_000):
        assert slots.take(number, 1)
    assert len(slots) == 10_000
    for number in range(10_000):
        slots.release(number)
    assert len(slots) == 0
