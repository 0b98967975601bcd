"""A TCP proxy between the gateway and a server that does, on demand, what bad networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal

Direction = Literal["up", "down"]
"""`up` runs from client to server, `down` back."""
_CHUNK: Final = 65536
_FAREWELL: Final = 0.2


@dataclass
class Lane:
    """One direction of every connection.

    Attributes:
        delay: seconds that each chunk is held back.
        swallows: whether bytes are read and dropped: the sender sees nothing.
        rate: bytes a second of each connection; as many as there are when None.
        cut_after: the connection on which this many bytes have gone this way, over all, is reset; once.
        passed: bytes that went this way.
    """

    delay: float = 0.0
    swallows: bool = False
    rate: float | None = None
    cut_after: int | None = None
    passed: int = 0
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._flows.set()

    def stall(self) -> None:
        """Read nothing more: buffers fill, and the sender waits."""
        self._flows.clear()

    def flow(self) -> None:
        """Go on, with what waited."""
        self._flows.set()

    def cut(self, after: int) -> None:
        """Reset the connection on which this many further bytes have passed, in the middle of a message if need be."""
        self.cut_after = self.passed + after

    async def admit(self, data: bytes) -> tuple[bytes, bool]:
        """What of a chunk may pass, and whether the connection ends there."""
        await self._flows.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.rate:
            await asyncio.sleep(len(data) / self.rate)
        if self.swallows:
            return b"", False
        is_last = self.cut_after is not None and self.passed + len(data) >= self.cut_after
        if is_last:
            data = data[: max(0, (self.cut_after or 0) - self.passed)]
            self.cut_after = None
        self.passed += len(data)
        return data, is_last


class FaultProxy:
    """Forwards connections to a server until told to misbehave; `heal` makes it honest again."""

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self.accepted = 0
        self.up = Lane()
        self.down = Lane()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """Connections that pass through now."""
        return len(self._tasks)

    async def open(self) -> None:
        """Listen; the port stays the same over `refuse` and `accept`."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def accept(self) -> None:
        """Take connections again."""
        if self._server is None:
            await self.open()

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def stall(self) -> None:
        """Hold everything back, in both directions."""
        self.up.stall()
        self.down.stall()

    def reset(self) -> None:
        """Reset every open connection (RST, not FIN)."""
        for writer in list(self._writers):
            _abort(writer)

    def forget(self) -> None:
        """Drop whatever comes on the connections that are open now, as a firewall that forgot them; new ones pass."""
        for lane in (self.up, self.down):
            lane.swallows = True
            lane.flow()
        self.up, self.down = Lane(), Lane()

    def retarget(self, host: str, port: int) -> None:
        """Forward new connections to another server."""
        self._target = (host, port)

    async def heal(self) -> None:
        """Take connections and forward everything."""
        for lane in (self.up, self.down):
            lane.delay, lane.swallows, lane.rate, lane.cut_after = 0.0, False, None, None
            lane.flow()
        await self.accept()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:  # of those that were cancelled while they said goodbye
            _abort(writer)
        self._writers.clear()
        await asyncio.sleep(0)  # sockets that were aborted are closed in the loop's next turn

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            streams = await asyncio.open_connection(*self._target)
            await self._forward(reader, writer, *streams)
        except OSError:
            _abort(writer)
        finally:
            await _hang_up(writer)
            self._writers.discard(writer)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._writers.add(server_writer)
        lanes = [
            asyncio.ensure_future(_pump(reader, server_writer, self.up)),
            asyncio.ensure_future(_pump(server_reader, writer, self.down)),
        ]
        try:
            done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            if any(lane.result() for lane in done):
                _abort(writer)
                _abort(server_writer)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            await _hang_up(server_writer)
            self._writers.discard(server_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Lane) -> bool:
    """Forward until one side ends; whether it ended by a reset."""
    try:
        while data := await reader.read(_CHUNK):
            data, is_last = await lane.admit(data)
            writer.write(data)
            await writer.drain()
            if is_last:
                return True
    except OSError:
        return True
    return False


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, with what is still in its buffer if the other side takes it soon."""
    writer.close()
    try:
        async with asyncio.timeout(_FAREWELL):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Reset a connection: what is still in the buffers is lost, and the other side sees RST."""
    with suppress(OSError):
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server."""
    proxy = FaultProxy(host, port)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
