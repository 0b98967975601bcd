"""Many deadlines of which few ever come: one timer of the event loop serves them all.

`asyncio.timeout` sets and cancels a timer for each block. Here a deadline is an entry in a
dictionary, and the loop's timer is moved only when one comes that is earlier than it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

HELD_UP: Final = 0.05
"""Seconds by which the loop calls back too late where it, or the whole process, stood still."""
MERCY: Final = 0.5
"""Seconds that an alarm is then put off, once: what came meanwhile was not read yet, and may make it needless."""


class Alarms:
    """Callbacks at times of the event loop, for one loop."""

    __slots__ = ("_due", "_put_off", "_set", "_timer")

    def __init__(self) -> None:
        self._put_off: set[object] = set()
        self._set: dict[object, tuple[float, Callable[[], object]]] = {}
        self._due = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Alarms that are set."""
        return len(self._set)

    def set(self, key: object, when: float, ring: Callable[[], object]) -> None:
        """Have `ring` called at a time, unless the alarm is unset before; one for each key.

        Args:
            key: whose alarm.
            when: the event loop's time, in seconds.
            ring: must not raise.
        """
        self._set[key] = (when, ring)
        if when < self._due:
            self._move(when)

    def unset(self, key: object) -> None:
        """Have it not ring; harmless where it has."""
        self._set.pop(key, None)
        if self._put_off:
            self._put_off.discard(key)

    def _move(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = when
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        """Ring what is due, and wait for the earliest of the rest."""
        now = asyncio.get_running_loop().time()
        was_held_up = now - self._due > HELD_UP
        self._due, self._timer = float("inf"), None
        for key in [key for key, (when, _) in self._set.items() if when <= now]:
            if was_held_up and key not in self._put_off:
                self._put_off.add(key)
                self._set[key] = (now + MERCY, self._set[key][1])
            else:
                self._put_off.discard(key)
                self._set.pop(key)[1]()
        if self._set:
            self._move(min(when for when, _ in self._set.values()))


class Limit:
    """`async with`: what `asyncio.timeout` is, by an alarm.

    Args:
        alarms: where it is set.
        seconds: how long the block may take; it is cancelled then, and TimeoutError is raised on leaving it.

    Attributes:
        has_expired: whether the time ran out.
    """

    __slots__ = ("_alarms", "_cancelling", "_seconds", "_task", "has_expired")

    def __init__(self, alarms: Alarms, seconds: float) -> None:
        self._alarms = alarms
        self._seconds = seconds
        self.has_expired = False

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a limit needs a task that it can cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._alarms.set(self, loop.time() + self._seconds, self._expire)

    def _expire(self) -> None:
        self.has_expired = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._alarms.unset(self)
        # Who else has cancelled the task meanwhile is not to be mistaken for us (as in asyncio.timeouts).
        if self.has_expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
