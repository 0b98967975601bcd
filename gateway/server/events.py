"""What changed, told to those who listen: a hub in this process, bounded and coalescing.

Every event is a level, not an edge ("this changed, look again"), so that two of
a kind which a listener has not yet taken are one (MCP 2026-07-28,
subscriptions/listen). Replicas need no bus between them: each of them sees the
configuration and the databases by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

SETTLE: Final = 0.2
"""Seconds from an announcement to the events; what is announced meanwhile is part of it, as by a source that learns."""
_AT_ONCE: Final = 100
_PAUSE: Final = 0.01


class Kind(StrEnum):
    """What listeners may ask for: the keys of the filter in `subscriptions/listen`."""

    TOOLS = "toolsListChanged"


class Listener:
    """One who listens. Made by `Announcements.listener`; used by one task."""

    __slots__ = ("_pending", "_wake", "is_ended", "kinds")

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self.kinds = kinds
        self.is_ended = False
        self._pending: set[Kind] | None = None
        self._wake: asyncio.Future[None] | None = None

    def tell(self, kind: Kind) -> None:
        """Keep an event until it is taken."""
        if kind in self.kinds:
            self._pending = {*(self._pending or ()), kind}
            self._rouse()

    def end(self) -> None:
        """There will be no more events."""
        self.is_ended = True
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self, seconds: float) -> Kind | None:
        """The next event; None after so many seconds without one, or at the end of all."""
        if self._pending is None and not self.is_ended:
            loop = asyncio.get_running_loop()
            self._wake = loop.create_future()
            timer = loop.call_later(seconds, self._rouse)
            try:
                await self._wake
            finally:
                timer.cancel()
                self._wake = None
        if self._pending is None:
            return None
        kind = self._pending.pop()
        self._pending = self._pending or None
        return kind


class Announcements:
    """Takes word of changes, and passes it on to the listeners, a few at a time so that calls are not held up."""

    def __init__(self) -> None:
        self._listeners: dict[Listener, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def announce_tools_changed(self) -> None:
        """Say that `tools/list` answers otherwise than before, for some callers at least; never blocks."""
        # A change that comes while an earlier one is still being passed on begins anew after it: whoever was told
        # already may have looked again before this change.
        if self._timer is None and self._listeners and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self._begin)

    @contextmanager
    def listener(self, kinds: Iterable[Kind]) -> Iterator[Listener]:
        """Listen while the block runs."""
        listener = Listener(frozenset(kinds))
        if self._is_closed:
            listener.end()
        self._listeners[listener] = None
        try:
            yield listener
        finally:
            del self._listeners[listener]

    def close(self) -> None:
        """End every listener, after what was announced and not yet told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            for listener in self._listeners:
                listener.tell(Kind.TOOLS)
        self._is_closed = True
        for listener in self._listeners:
            listener.end()

    def _begin(self) -> None:
        self._timer = None
        self._pass_on(list(self._listeners))

    def _pass_on(self, remaining: list[Listener]) -> None:
        for listener in remaining[:_AT_ONCE]:
            listener.tell(Kind.TOOLS)
        if rest := remaining[_AT_ONCE:]:
            asyncio.get_running_loop().call_later(_PAUSE, self._pass_on, rest)
