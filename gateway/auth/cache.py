"""A bounded memory with expiry, and how long a verdict is believed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.config.auth import VerdictCacheSettings

V = TypeVar("V")


class ExpiringCache(Generic[V]):
    """Least recently used entries leave first; an entry never outlives its time. Synchronous, O(1).

    Args:
        max_entries: most entries held.
        clock: the time that entries' ends are told in, in seconds.
    """

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> V | None:
        """The value, unless its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if self._clock() >= until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: bytes, value: V, until: float) -> None:
        """Remember a value until a time; not at all when that has passed."""
        if until <= self._clock():
            return
        self._entries[key] = (until, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def drop(self, key: bytes) -> None:
        """Forget a value, if it is there."""
        self._entries.pop(key, None)


def good_until(now: float, expires_at: float, settings: VerdictCacheSettings) -> float:
    """When a verdict must be made anew, in Unix time.

    At most `max_age` from now, and `expiry_buffer` before the token expires; for a
    token that expires soon the buffer is at most a fifth of the life it has left.
    """
    buffer = min(settings.expiry_buffer, max(0.0, expires_at - now) / 5)
    return min(now + settings.max_age, expires_at - buffer)
