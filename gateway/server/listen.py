"""`subscriptions/listen` (MCP 2026-07-28): a stream of what changed, acknowledged first, every frame tagged.

The SDK has a handler for it, which keeps a buffer and a chain of models for
each stream; ours keeps a future, since thousands of streams are idle at once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from gateway.config.models import GatewaySettings
from gateway.context import Principal
from gateway.errors import RateLimited
from gateway.server.events import Announcements, Kind
from gateway.server.jsonrpc import Message, notification_bytes, wire_int
from gateway.server.outlet import Outlet

METHOD: Final = "subscriptions/listen"
ENDED: Final = "mcp-database-gateway/ended"
"""The key in the last result's `_meta` that says why the stream ended."""
KEEP_ALIVE: Final = 15.0
"""Seconds between comment lines on a silent stream."""
_RETRY: Final = 30.0
_NOTIFICATIONS: Final = {Kind.TOOLS: "notifications/tools/list_changed"}


class Listening:
    """Holds the streams of one process, and their bounds.

    Args:
        announcements: what is told on them.
    """

    def __init__(self, announcements: Announcements) -> None:
        self._announcements = announcements
        self._held: Counter[tuple[str, ...]] = Counter()
        self._total = 0

    def __len__(self) -> int:
        """Streams that are open."""
        return self._total

    async def serve(
        self, principal: Principal, outlet: Outlet, message: Message, settings: GatewaySettings
    ) -> dict[str, Any]:
        """Tell what changes until the gateway stops or the token is due.

        Args:
            principal: who listens.
            outlet: its stream.
            message: the request, which was judged already.
            settings: of the moment.

        Returns:
            The `_meta` of the last result.

        Raises:
            RateLimited: the caller, or all together, hold too many streams.
            Refused: the client takes no stream.
        """
        wanted = (message.params or {})["notifications"]
        kinds = [kind for kind in Kind if wanted.get(kind) is True]
        meta = {SUBSCRIPTION_ID_META_KEY: wire_int(message.id)}
        due = _due(principal, settings)
        with self._place(principal, settings), self._announcements.listener(kinds) as listener:
            acknowledged = {"notifications": {kind.value: True for kind in kinds}, "_meta": meta}
            await outlet.tell(notification_bytes("notifications/subscriptions/acknowledged", acknowledged))
            while (left := due - time.time()) > 0:
                kind = await listener.take(min(KEEP_ALIVE, left))
                if kind is not None:
                    await outlet.tell(notification_bytes(_NOTIFICATIONS[kind], {"_meta": meta}))
                elif listener.is_ended:
                    return {**meta, ENDED: "shutdown"}
                else:
                    await outlet.keep_alive()
        return {**meta, ENDED: "token_due"}

    @contextmanager
    def _place(self, principal: Principal, settings: GatewaySettings) -> Iterator[None]:
        caller, limits = (principal.issuer, principal.client_id, principal.subject), settings.limits
        if self._held[caller] >= limits.listeners_per_caller:
            message = f"You hold {self._held[caller]} streams open, and no more at once; close one first."
            raise RateLimited(_RETRY, "listeners", message, detail="limits.listeners_per_caller")
        if self._total >= limits.max_listeners:
            message = "Too many clients listen at once; ask tools/list from time to time instead."
            raise RateLimited(_RETRY, "listeners", message, detail="limits.max_listeners")
        self._held[caller] += 1
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


def _due(principal: Principal, settings: GatewaySettings) -> float:
    """Until when the token is believed without being looked at again, as Unix time."""
    if settings.auth.mode == "none" or principal.has_every_scope:
        return float("inf")
    return min(principal.expires_at, time.time() + settings.auth.cache.max_age)
