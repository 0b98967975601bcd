"""Where messages to a client go while its request runs, in whatever framing."""

from __future__ import annotations

from typing import Protocol


class Outlet(Protocol):
    """One request's way back to its client. Used by its handler only."""

    def notify(self, message: bytes) -> None:
        """Send a notification ahead of the result; never blocks, and drops the oldest when the reader is slow."""

    async def tell(self, message: bytes) -> None:
        """Send a message on a stream that stays open, and wait while the reader is slow.

        Raises:
            Refused: the client takes no stream.
            ConnectionError: it has left.
        """

    async def keep_alive(self) -> None:
        """Show whatever is between us and the client that the stream is in use.

        Raises:
            ConnectionError: the client has left.
        """
