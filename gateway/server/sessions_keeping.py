"""What goes on beside all requests while sessions are kept: idle ones end, and every client hears of changed tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.config.features import FeatureSettings
from gateway.server.events import Announcements, Kind
from gateway.server.jsonrpc import notification_bytes
from gateway.server.listener import running
from gateway.server.sessions import Sessions

TOOLS_CHANGED: Final = notification_bytes("notifications/tools/list_changed", {})
"""What clients are told when `tools/list` answers otherwise than before."""
_SWEEP: Final = 30.0


@asynccontextmanager
async def open_sessions(settings: FeatureSettings, announcements: Announcements) -> AsyncIterator[Sessions]:
    """Sessions that are swept and told of changes while the block runs; who closes what they use, drains them first."""
    sessions = Sessions(settings)
    async with running(_sweep(sessions)), running(_tell_changes(sessions, announcements)):
        yield sessions


async def _sweep(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(min(_SWEEP, sessions.settings.session_idle_timeout / 4))
        sessions.end_idle()


async def _tell_changes(sessions: Sessions, announcements: Announcements) -> None:
    """Listen while sessions are on, until there are no more announcements."""
    while True:
        await sessions.are_on.wait()
        listener = announcements.join((Kind.TOOLS,))
        try:
            while sessions.are_on.is_set():
                if await listener.take(_SWEEP) is not None:
                    await sessions.announce(TOOLS_CHANGED)
                elif listener.is_ended:
                    return
        finally:
            announcements.leave(listener)
