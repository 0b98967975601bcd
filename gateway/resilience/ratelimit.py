"""A token bucket for each client, in memory that is bounded however many clients come."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

# Forgives rounding, so that who waits exactly as long as told is admitted.
_ROUNDING: Final = 1e-6


class RateLimiter:
    """Admits `burst` requests at once and `per_minute` of them in the long run, for each key.

    Kept as one number per client, the time at which its bucket will be full again
    (the generic cell rate algorithm, ITU-T I.371). Synchronous, O(1), no timers.

    Args:
        per_minute: tokens that flow into a bucket each minute.
        burst: tokens that a bucket holds; a new client's is full.
        max_clients: most clients remembered; the longest idle is forgotten first.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, per_minute: int, burst: int, max_clients: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if min(per_minute, burst, max_clients) < 1:
            raise ValueError("per_minute, burst and max_clients must be at least 1")
        self._interval = 60.0 / per_minute
        self._slack = self._interval * (burst - 1)
        self._max_clients = max_clients
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """Clients remembered now."""
        return len(self._full_at)

    def admit(self, key: Hashable) -> float:
        """Take one token of a client: 0.0 if admitted, else the seconds to wait; a refusal costs nothing."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now))
        wait = full_at - now - self._slack
        admitted = wait <= _ROUNDING
        self._full_at[key] = full_at + self._interval if admitted else full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_clients:
            self._full_at.popitem(last=False)
        return 0.0 if admitted else wait
