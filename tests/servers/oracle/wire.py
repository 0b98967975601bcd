"""TNS packets and TTC's scalars, as python-oracledb's thin client reads and writes them (version 318)."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final

CONNECT, ACCEPT, REFUSE, DATA, MARKER = 1, 2, 4, 6, 12
BREAK, RESET, INTERRUPT = 1, 2, 3
END_OF_FILE: Final = 0x40
SDU: Final = 8192
_HEADER: Final = 8
_SHORT: Final = 252
_CHUNKED: Final = 0xFE
_NULL: Final = 0xFF
_CHUNK: Final = 32767


class Gone(Exception):
    """The client went away."""


class Broken(Exception):
    """The client asked to break off."""


class Packets:
    """One connection's packets: a thread reads them, so that a break is seen while a statement runs."""

    def __init__(self, raw: socket.socket, on_break: Callable[[], None], flowing: threading.Event) -> None:
        self._raw = raw
        self._flowing = flowing
        self._on_break = on_break
        self._inbox: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        self.is_large = False
        self.is_breaking = False

    def start(self) -> None:
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        while True:
            try:
                packet = self.read()
            except (OSError, Gone):
                self._on_break()  # nobody waits for what runs now
                self._inbox.put(None)
                return
            if packet[0] == MARKER and packet[1][2] != RESET:
                self.is_breaking = True
                self._on_break()
            self._inbox.put(packet)

    def read(self) -> tuple[int, bytes]:
        """The next packet from the socket: its type and body."""
        head = self._exactly(_HEADER)
        size = struct.unpack(">I" if self.is_large else ">H2x", head[:4])[0]
        return head[4], self._exactly(size - _HEADER)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self._raw.recv(size - len(data))):
                raise Gone
            data += more
        return data

    def next(self) -> tuple[int, bytes]:
        packet = self._inbox.get()
        if packet is None:
            self._inbox.put(None)
            raise Gone
        return packet

    def request(self) -> Reader:
        """The client's next request.

        Raises:
            Broken: it breaks off what ran before.
            Gone: it left.
        """
        kind, body = self.next()
        if kind == MARKER:
            raise Broken
        if struct.unpack(">H", body[:2])[0] & END_OF_FILE:
            raise Gone
        return Reader(self, body[2:])

    def send(self, kind: int, body: bytes) -> None:
        self._flowing.wait()
        size = _HEADER + len(body)
        head = struct.pack(">I", size) if self.is_large else struct.pack(">HH", size, 0)
        self._raw.sendall(head + bytes([kind, 0, 0, 0]) + body)

    def send_data(self, payload: bytes) -> None:
        """A payload in as many packets as it takes."""
        room = SDU - _HEADER - 2
        for start in range(0, max(len(payload), 1), room):
            self.send(DATA, b"\0\0" + payload[start : start + room])

    def send_marker(self, kind: int) -> None:
        self.send(MARKER, bytes([1, 0, kind]))


class Reader:
    """A request: pulls further packets where it goes on in them."""

    def __init__(self, packets: Packets, data: bytes) -> None:
        self._packets = packets
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._data)

    def raw(self, size: int) -> bytes:
        while len(self._data) - self._at < size:
            kind, body = self._packets.next()
            if kind == MARKER:
                raise Broken
            self._data = self._data[self._at :] + body[2:]
            self._at = 0
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def byte(self) -> int:
        return self.raw(1)[0]

    def ub(self) -> int:
        return int.from_bytes(self.raw(self.byte()), "big")

    def skip(self, layout: str) -> None:
        """Pass over fields: b is a byte, u a number."""
        for field in layout:
            self.byte() if field == "b" else self.ub()

    def chunks(self) -> bytes | None:
        """Bytes behind one length byte."""
        length = self.byte()
        if length in (0, _NULL):
            return None
        if length != _CHUNKED:
            return self.raw(length)
        data = b""
        while size := self.ub():
            data += self.raw(size)
        return data

    def sized(self) -> bytes:
        """Bytes behind two lengths."""
        return (self.chunks() or b"") if self.ub() else b""


def ub(value: int) -> bytes:
    size = next(size for size in (0, 1, 2, 4, 8) if value < 1 << 8 * size)
    return bytes([size]) + value.to_bytes(size, "big")


def chunks(data: bytes | None) -> bytes:
    if data is None or not data:
        return b"\0"
    if len(data) <= _SHORT:
        return bytes([len(data)]) + data
    parts = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    return bytes([_CHUNKED]) + b"".join(ub(len(part)) + part for part in parts) + b"\0"


def sized(data: bytes) -> bytes:
    return ub(len(data)) + chunks(data) if data else b"\0"
