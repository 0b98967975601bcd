"""`subscriptions/listen` (MCP 2026-07-28): a stream of what changed, acknowledged first, every frame tagged.

The SDK has a handler for it, which keeps a buffer, a task and a chain of models
for each stream; ours keeps one object and a timer, since thousands are idle at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.config.models import GatewaySettings
from gateway.context import Principal
from gateway.errors import RateLimited
from gateway.server.events import Announcements, Kind
from gateway.server.jsonrpc import Message, notification_bytes, wire_int
from gateway.server.outlet import Line, Outlet

METHOD: Final = "subscriptions/listen"
ENDED: Final = "mcp-database-gateway/ended"
"""The key in the last result's `_meta` that says why the stream ended."""
KEEP_ALIVE: Final = 15.0
"""Seconds between comment lines on a silent stream."""
_RETRY: Final = 30.0
_NOTIFICATIONS: Final = {Kind.TOOLS: "notifications/tools/list_changed"}
Caller = tuple[str, ...]


class Listening:
    """Holds the streams of one process, and their bounds.

    Args:
        announcements: what is told on them.
    """

    def __init__(self, announcements: Announcements) -> None:
        self.announcements = announcements
        self._held: Counter[Caller] = Counter()
        self._total = 0

    def __len__(self) -> int:
        """Streams that are open."""
        return self._total

    async def serve(
        self,
        principal: Principal,
        outlet: Outlet,
        message: Message,
        settings: GatewaySettings,
        about: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Tell what changes until the gateway stops or the token is due.

        Args:
            principal: who listens.
            outlet: its way back; over HTTP it takes the request over, and this never returns.
            message: the request, which was judged already.
            settings: of the moment.
            about: what the last result says of the server, in its `_meta`.

        Returns:
            The last result.

        Raises:
            RateLimited: the caller, or all together, hold too many streams.
            Refused: the client takes no stream.
        """
        wanted = (message.params or {})["notifications"]
        kinds = tuple(kind for kind in Kind if wanted.get(kind) is True)
        meta = {SUBSCRIPTION_ID_META_KEY: wire_int(message.id)}
        caller = self._take_place(principal, settings)
        subscription = _Subscription(self, caller, kinds, meta, _due(principal, settings), about)
        try:
            line = await outlet.hold(subscription, message.id)
        except BaseException:
            self.leave(subscription, caller)
            raise
        subscription.begin(line)
        return await line.until_ended()

    def _take_place(self, principal: Principal, settings: GatewaySettings) -> Caller:
        caller, limits = (principal.issuer, principal.client_id, principal.subject), settings.limits
        if self._held[caller] >= limits.listeners_per_caller:
            message = f"You hold {self._held[caller]} streams open, and no more at once; close one first."
            raise RateLimited(_RETRY, "listeners", message, detail="limits.listeners_per_caller")
        if self._total >= limits.max_listeners:
            message = "Too many clients listen at once; ask tools/list from time to time instead."
            raise RateLimited(_RETRY, "listeners", message, detail="limits.max_listeners")
        self._held[caller] += 1
        self._total += 1
        return caller

    def leave(self, subscription: _Subscription, caller: Caller) -> None:
        """A stream is over."""
        self.announcements.leave(subscription)
        self._total -= 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]


class _Subscription:
    """One who listens: told by the announcements, and by its line when that is free."""

    __slots__ = ("_about", "_caller", "_due", "_kinds", "_line", "_listening", "_meta", "_pending", "_timer")

    def __init__(
        self,
        listening: Listening,
        caller: Caller,
        kinds: tuple[Kind, ...],
        meta: Mapping[str, Any],
        due: float,
        about: Mapping[str, Any],
    ) -> None:
        self._listening = listening
        self._caller = caller
        self._kinds = kinds
        self._meta = meta
        self._due = due
        self._about = about
        self._pending: set[Kind] | None = None
        self._line: Line | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, line: Line) -> None:
        """Acknowledge, and be told from now on."""
        self._line = line
        line.write(_acknowledgement(self._kinds, self._meta))
        self._wait()
        self._listening.announcements.add(self)

    def tell(self, kind: Kind) -> None:
        """Keep an event until the line takes it; two of a kind are one."""
        if kind in self._kinds:
            self._pending = {*(self._pending or ()), kind}
            self.flow()

    def flow(self) -> None:
        """Say what is kept, while the line takes it."""
        while self._pending and self._line is not None and self._line.is_writable:
            self._say(self._pending.pop())
            self._pending = self._pending or None

    def _say(self, kind: Kind) -> None:
        if self._line is not None:
            self._line.write(notification_bytes(_NOTIFICATIONS[kind], {"_meta": self._meta}))
            self._wait()

    def end(self) -> None:
        """There will be no more events: the gateway stops."""
        for kind in self._pending or ():
            self._say(kind)
        self._finish("shutdown")

    def lost(self) -> None:
        """The line is over."""
        self._line = None
        self._stop_timer()
        self._listening.leave(self, self._caller)

    def _wait(self) -> None:
        """Look again when the line was silent for long, or the token is due."""
        self._stop_timer()
        seconds = min(KEEP_ALIVE, self._due - time.time())
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._look)

    def _look(self) -> None:
        if self._due <= time.time():
            self._finish("token_due")
        elif self._line is not None:
            if self._line.is_writable:
                self._line.keep_alive()
                self.flow()
            self._wait()

    def _finish(self, why: str) -> None:
        self._stop_timer()
        if self._line is not None:
            self._line.end({"resultType": "complete", "_meta": {**self._meta, ENDED: why, **self._about}})

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _acknowledgement(kinds: Iterable[Kind], meta: Mapping[str, Any]) -> bytes:
    honoured = {"notifications": {kind.value: True for kind in kinds}, "_meta": meta}
    return notification_bytes("notifications/subscriptions/acknowledged", honoured)


def _due(principal: Principal, settings: GatewaySettings) -> float:
    """Until when the token is believed without being looked at again, as Unix time."""
    if settings.auth.mode == "none" or principal.has_every_scope:
        return float("inf")
    return min(principal.expires_at, time.time() + settings.auth.cache.max_age)
