"""The SDK's view of one request: its dispatch context, which can notify and never ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from anyio import Event
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext

from gateway.server.jsonrpc import notification_bytes
from gateway.server.outlet import Outlet

_TRANSPORT: Final = TransportContext(kind="streamable-http", can_send_request=False)


@dataclass(slots=True)
class DispatchContext:
    """The SDK's view of one exchange (`mcp.shared.dispatcher.DispatchContext`): it can notify, never ask."""

    request_id: str | int
    message_metadata: ServerMessageMetadata
    outlet: Outlet
    transport: TransportContext = _TRANSPORT
    can_send_request: bool = False

    @property
    def cancel_requested(self) -> Event:
        """Never set: a cancelled request's task is cancelled with it."""
        return Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Refuse: a gateway has nothing to ask of its client."""
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Queue a notification on this request's stream."""
        self.outlet.notify(notification_bytes(method, params or {}))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report nothing: a call tells its stages through `Call.report`."""
