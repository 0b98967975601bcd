"""Slots against their promises, whoever comes, leaves, is cancelled or runs out of time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.resilience.concurrency import Slots
from tests.database.fakes import VirtualLoop, in_virtual_time

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


MOMENT = 1 / 1024
"""Passes after each step in which others must run, so that no two limits end at one time."""


@dataclass(eq=False)
class Caller:
    """One that waits, or waited."""

    key: str
    deadline: float
    task: asyncio.Task[bool]


class Machine(RuleBasedStateMachine):
    """Slots beside counts and lists; a place that was given away may not have been noticed yet by who waited for it."""

    @initialize(max_waiting=st.integers(0, 5))
    def open(self, max_waiting: int) -> None:
        self.loop = VirtualLoop()
        self.slots = Slots()
        self.max_waiting = max_waiting
        self.held = dict.fromkeys(LIMITS, 0)
        self.queues: dict[str, list[Caller]] = {key: [] for key in LIMITS}
        self.given: list[Caller] = []

    def run(self, seconds: float = 0.0) -> None:
        """Let everybody notice, and time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds + MOMENT))
        for caller in self.given:
            assert caller.task.result() is True
        self.given.clear()
        for queue in self.queues.values():
            for caller in [each for each in queue if each.deadline <= self.loop.time()]:
                queue.remove(caller)
                assert caller.task.result() is False

    @property
    def in_use(self) -> list[str]:
        """Keys of which somebody knows to hold a place."""
        unnoticed = Counter(caller.key for caller in self.given)
        return [key for key, held in self.held.items() if held > unnoticed[key]]

    def give_back(self, key: str) -> None:
        if self.queues[key]:
            self.given.append(self.queues[key].pop(0))
        else:
            self.held[key] -= 1

    @rule(key=st.sampled_from("abc"), count=st.integers(1, 4), patience=st.sampled_from([0.0, 0.5, 2.0, 60.0, 60.0]))
    def come(self, key: str, count: int, patience: float) -> None:
        for _ in range(count):
            may = self.held[key] < LIMITS[key] and not self.queues[key]
            assert self.slots.take(key, LIMITS[key]) is may
            self.held[key] += may
            if not may:
                self.wait(key, patience)

    def wait(self, key: str, patience: float) -> None:
        has_room = patience > 0.0 and len(self.queues[key]) < self.max_waiting
        deadline = self.loop.time() + patience
        caller = Caller(key, deadline, self.loop.create_task(self.slots.wait(key, patience, self.max_waiting)))
        if has_room:
            self.queues[key].append(caller)
        self.run()
        if not has_room:
            assert caller.task.result() is False

    @precondition(lambda self: self.in_use)
    @rule(data=st.data(), count=st.integers(1, 3))
    def release(self, data: st.DataObject, count: int) -> None:
        while count and self.in_use:
            key = data.draw(st.sampled_from(self.in_use))
            self.slots.release(key)
            self.give_back(key)
            count -= 1

    @precondition(lambda self: any(self.queues.values()))
    @rule(data=st.data(), meets_release=st.booleans())
    def lose_interest(self, data: st.DataObject, meets_release: bool) -> None:
        caller = data.draw(st.sampled_from([each for queue in self.queues.values() for each in queue]))
        self.queues[caller.key].remove(caller)
        caller.task.cancel()
        if meets_release and caller.key in self.in_use:
            self.slots.release(caller.key)
            self.give_back(caller.key)
        self.run()
        assert caller.task.cancelled()

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def lose_interest_in_what_was_given(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.given))
        self.given.remove(caller)
        caller.task.cancel()
        self.give_back(caller.key)
        self.run()
        assert caller.task.cancelled()

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(seconds)

    @invariant()
    def counts_are_the_models(self) -> None:
        for key in getattr(self, "held", {}):
            assert (self.slots.held(key), self.slots.waiting(key)) == (self.held[key], len(self.queues[key]))
        if hasattr(self, "held"):
            assert self.slots.all_waiting == sum(map(len, self.queues.values()))
            assert len(self.slots) == sum(held > 0 for held in self.held.values())

    def teardown(self) -> None:
        for queue in self.queues.values():
            for caller in queue:
                caller.task.cancel()
        self.loop.run_until_complete(asyncio.sleep(MOMENT))
        for key, held in self.held.items():
            for _ in range(held):
                self.slots.release(key)
        assert len(self.slots) == 0
        self.loop.close()


TestMachine = Machine.TestCase


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
