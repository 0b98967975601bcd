"""A token bucket for each client, in memory that is bounded however many clients come."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

# Forgives rounding, so that who waits exactly as long as told is admitted.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a bucket fills, and how much it holds.

    Attributes:
        per_minute: tokens that flow in each minute.
        burst: tokens that it holds; a new one is full.
        interval: seconds between two tokens.
        slack: how far ahead of its time a request may come, in seconds.
    """

    per_minute: int
    burst: int
    interval: float = field(init=False)
    slack: float = field(init=False)

    def __post_init__(self) -> None:
        if min(self.per_minute, self.burst) < 1:
            raise ValueError("per_minute and burst must be at least 1")
        object.__setattr__(self, "interval", 60.0 / self.per_minute)
        object.__setattr__(self, "slack", self.interval * (self.burst - 1))


class RateLimiter:
    """Admits `burst` requests at once and `per_minute` of them in the long run, for each key.

    Kept as one number per key, the time at which its bucket will be full again
    (the generic cell rate algorithm, ITU-T I.371). Synchronous, O(1), no timers.

    Args:
        max_clients: most keys remembered; the longest idle is forgotten first.
        clock: seconds that never run backwards.
    """

    def __init__(self, max_clients: int, clock: Callable[[], float] = time.monotonic) -> None:
        if max_clients < 1:
            raise ValueError("max_clients must be at least 1")
        self._max_clients = max_clients
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """Keys remembered now."""
        return len(self._full_at)

    def admit(self, key: Hashable, rate: Rate) -> float:
        """Take one token: 0.0 if admitted, else the seconds to wait; a refusal costs nothing.

        Args:
            key: whose bucket; always with the same rate.
            rate: of that bucket.
        """
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now))
        wait = full_at - now - rate.slack
        admitted = wait <= _ROUNDING
        self._set(key, full_at + rate.interval if admitted else full_at)
        return 0.0 if admitted else wait

    def wait(self, key: Hashable, rate: Rate) -> float:
        """What `admit` would answer; takes nothing."""
        full_at = self._full_at.get(key)
        wait = 0.0 if full_at is None else full_at - self._clock() - rate.slack
        if wait <= _ROUNDING:
            return 0.0
        self._full_at.move_to_end(key)  # who is refused is not idle
        return wait

    def charge(self, key: Hashable, rate: Rate, tokens: float = 1.0) -> None:
        """Take tokens that are spent already, if need be on credit: one more token than the bucket holds, at most."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now)) + rate.interval * tokens
        self._set(key, min(full_at, now + rate.slack + 2 * rate.interval))

    def learn(self, key: Hashable, full_in: float) -> None:
        """Take over what another limiter knows of a bucket: the seconds until it is full."""
        self._set(key, self._clock() + full_in)

    def _set(self, key: Hashable, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_clients:
            self._full_at.popitem(last=False)
