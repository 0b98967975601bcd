"""What changed, told to those who listen: a hub in this process, bounded and coalescing.

Every event is a level, not an edge ("this changed, look again"), so that two of
a kind which a listener has not yet taken are one (MCP 2026-07-28,
subscriptions/listen). Replicas need no bus between them: each of them sees the
configuration and the databases by itself.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final, Protocol

SETTLE: Final = 0.2
"""Seconds from an announcement to the events; what is announced meanwhile is part of it, as by a source that learns."""
_AT_ONCE: Final = 100
_PAUSE: Final = 0.01


class Kind(StrEnum):
    """What listeners may ask for: the keys of the filter in `subscriptions/listen`."""

    TOOLS = "toolsListChanged"


class Hearer(Protocol):
    """One who is told."""

    def tell(self, kind: Kind) -> None:
        """Something changed; never blocks."""

    def end(self) -> None:
        """There will be no more events."""


class Listener:
    """A task that listens. Made by `Announcements.join`."""

    __slots__ = ("_pending", "_wake", "is_ended", "kinds")

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
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
    """Takes word of changes, and passes it on to the listeners, a few at a time so that calls are not held up.

    Args:
        serving: stands for the configuration in force.
    """

    def __init__(self, serving: object) -> None:
        self.serving = serving
        self._hearers: dict[Hearer, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._hearers)

    def learned(self, configuration: object) -> None:
        """Say that a database told what its results look like; of no interest while another configuration serves."""
        if configuration is self.serving:
            self.announce_tools_changed()

    def announce_tools_changed(self) -> None:
        """Say that `tools/list` answers otherwise than before, for some callers at least; never blocks."""
        # A change that comes while an earlier one is still being passed on begins anew after it: whoever was told
        # already may have looked again before this change.
        if self._timer is None and self._hearers and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self._begin)

    def join(self, kinds: tuple[Kind, ...]) -> Listener:
        """Listen, until `leave`."""
        listener = Listener(kinds)
        self.add(listener)
        return listener

    def add(self, hearer: Hearer) -> None:
        """Tell someone, until `leave`; of the end at once where it has come already."""
        self._hearers[hearer] = None
        if self._is_closed:
            hearer.end()

    def leave(self, hearer: Hearer) -> None:
        """Tell someone no more; harmless when it is not told."""
        self._hearers.pop(hearer, None)

    def close(self) -> None:
        """End every listener, after what was announced and not yet told."""
        is_due = self._timer is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_closed = True
        for hearer in list(self._hearers):
            if is_due:
                hearer.tell(Kind.TOOLS)
            hearer.end()

    def _begin(self) -> None:
        self._timer = None
        self._pass_on(list(self._hearers))

    def _pass_on(self, remaining: list[Hearer]) -> None:
        for hearer in remaining[:_AT_ONCE]:
            hearer.tell(Kind.TOOLS)
        if rest := remaining[_AT_ONCE:]:
            asyncio.get_running_loop().call_later(_PAUSE, self._pass_on, rest)
