"""What the stand-in can be told to do wrong while it runs; freezing and restarting are the business of signals."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from typing import Any


class Faults:
    """Orders from the tests' process, and the connections that they are for.

    Attributes:
        flowing: cleared while the server answers nothing, though it listens and reads.
        refusal: the listener's answer to every connection; None while it lets them in.

    Args:
        context: of the listener with TLS, whose certificate can be exchanged.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self.refusal: int | None = None
        self._context = context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def obey(self, order: dict[str, Any]) -> None:
        """Do what is told: `stall`, `refuse`, `certificate` (from the next handshake on), `reset`."""
        if "stall" in order:
            self.flowing.clear() if order["stall"] else self.flowing.set()
        if "refuse" in order:
            self.refusal = order["refuse"]
        if "certificate" in order:
            assert self._context is not None
            self._context.load_cert_chain(order["certificate"], order["key"])
        if order.get("reset"):
            self._reset()

    def opened(self, raw: socket.socket) -> None:
        """A connection begins."""
        with self._lock:
            self._open.add(raw)

    def closed(self, raw: socket.socket) -> None:
        """A connection ends."""
        with self._lock:
            self._open.discard(raw)

    def _reset(self) -> None:
        """Let every connection end with a TCP reset: its reader finds it closed, and closes it without a farewell."""
        with self._lock:
            for raw in self._open:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.shutdown(socket.SHUT_RD)
