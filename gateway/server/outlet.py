"""Where messages to a client go while its request runs, in whatever framing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

from mcp.shared.jsonrpc_dispatcher import progress_token_from_params

from gateway.context import Report, ignore
from gateway.server.jsonrpc import Message, RequestId, notification_bytes, wire_int
from gateway.server.stream import Owner


class Line(Protocol):
    """An answer that stays open. Nothing here blocks."""

    @property
    def is_writable(self) -> bool:
        """Whether the client has taken what was written; the owner is told when it has again."""

    def write(self, message: bytes) -> None:
        """Send a message."""

    def keep_alive(self) -> None:
        """Show whatever is between us and the client that the stream is in use."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Send the result of the request, after which there is nothing."""

    async def until_ended(self) -> dict[str, Any]:
        """Wait for the result; cancelled at once where the answer no longer needs its request."""


class Outlet(Protocol):
    """One request's way back to its client. Used by its handler only."""

    def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result; never blocks, and drops the oldest when the reader is slow."""

    async def hold(self, owner: Owner, identifier: RequestId | None) -> Line:
        """Open an answer that stays open, whose owner is told when it is over.

        Raises:
            Refused: the client takes no stream.
            ConnectionError: it has left.
        """


def reporter(outlet: Outlet, message: Message) -> Report:
    """What turns a line of progress into a notification, if the client asked for progress."""
    token = progress_token_from_params(message.params)
    if token is None:
        return ignore
    steps = itertools.count(1)

    def report(line: str) -> None:
        params = {"progressToken": wire_int(token), "progress": next(steps), "message": line}
        outlet.notify(notification_bytes("notifications/progress", params))

    return report
