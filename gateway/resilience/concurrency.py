"""How many things one client may do at once; who comes too many waits in line for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable


class Slots:
    """A limit on what runs at once, for each key apart. First in, first served; nobody overtakes.

    Only keys in use are remembered: with nothing running there is nothing in memory.

    """

    def __init__(self) -> None:
        self._held: dict[Hashable, int] = {}
        # An ordered dictionary as a queue that may be left from the middle, in O(1).
        self._queues: dict[Hashable, OrderedDict[asyncio.Future[bool], None]] = {}

    def __len__(self) -> int:
        """Keys in use."""
        return len(self._held)

    def held(self, key: Hashable) -> int:
        """How many hold a slot of this key."""
        return self._held.get(key, 0)

    def waiting(self, key: Hashable) -> int:
        """How many wait for one."""
        return len(self._queues.get(key, ()))

    @property
    def all_waiting(self) -> int:
        """How many wait, whatever the key."""
        return sum(map(len, self._queues.values()))

    def take(self, key: Hashable, limit: int) -> bool:
        """Take one of a key's slots if one is free and nobody waits for it; who gets one must `release` it."""
        held = self._held.get(key, 0)
        if held >= limit or key in self._queues:
            return False
        self._held[key] = held + 1
        return True

    async def wait(self, key: Hashable, seconds: float, max_waiting: int) -> bool:
        """Wait for a slot, after `take` said no; whether there was one in time. Who gets one must `release` it.

        False at once when that many wait already.
        """
        if seconds <= 0.0 or self.waiting(key) >= max_waiting:
            return False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._queues.setdefault(key, OrderedDict())[waiter] = None
        timer = loop.call_later(seconds, _expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result():
                self.release(key)
            raise
        finally:
            timer.cancel()
            self._forget(key, waiter)

    def release(self, key: Hashable) -> None:
        """Give a slot back, or on to the first that still waits."""
        queue = self._queues.get(key)
        while queue:
            waiter, _ = queue.popitem(last=False)
            if not queue:
                del self._queues[key]
            if not waiter.done():
                waiter.set_result(True)
                return
        held = self._held[key] - 1
        if held:
            self._held[key] = held
        else:
            del self._held[key]

    def _forget(self, key: Hashable, waiter: asyncio.Future[bool]) -> None:
        queue = self._queues.get(key)
        if queue is not None and waiter in queue:
            del queue[waiter]
            if not queue:
                del self._queues[key]


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
