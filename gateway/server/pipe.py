"""Lines in and lines out over two descriptors, whatever they are: pipes, files, terminals.

Threads do the blocking: the event loop can wait for pipes only, and would have
to make the other side's descriptors non-blocking as well.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from collections.abc import AsyncIterator, Callable
from typing import Final

MAX_PENDING: Final = 64
"""Notifications kept for a slow reader; further ones are dropped."""
_READ_AHEAD: Final = 16
_CHUNK: Final = 64 * 1024


class Pipe:
    """A client on the other side of two descriptors. Both stay open; the threads end with the process.

    Args:
        source: read from.
        sink: written to.
        limit: bytes of a line; a longer one is thrown away and comes as None.

    Attributes:
        limit: as given.
    """

    def __init__(self, source: int, sink: int, limit: int) -> None:
        self._source = source
        self._sink = sink
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue(_READ_AHEAD)
        self._outgoing: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._notified = 0
        threading.Thread(target=self._write_all, name="stdout", daemon=True).start()

    async def lines(self) -> AsyncIterator[bytes | None]:
        """Every line without its end, until the other side closes; None for one that was too long."""
        threading.Thread(target=self._read_all, name="stdin", daemon=True).start()
        while (line := await self._incoming.get()) != b"":
            yield line

    def stop(self) -> None:
        """End `lines`, and drop what was read ahead."""
        while not self._incoming.empty():
            self._incoming.get_nowait()
        self._incoming.put_nowait(b"")

    async def write(self, line: bytes) -> None:
        """Write a line, and wait until it is taken.

        Raises:
            OSError: nobody reads any more.
        """
        await self._enqueue(line)

    def notify(self, line: bytes) -> None:
        """Write a line soon, unless too many wait already."""
        if self.keeps_up:
            self.post(line)

    def post(self, line: bytes) -> None:
        """Write a line soon."""
        self._notified += 1
        self._enqueue(line).add_done_callback(self._was_notified)

    @property
    def keeps_up(self) -> bool:
        """Whether a notification would be written, and not dropped."""
        return self._notified < MAX_PENDING

    @property
    def is_deaf(self) -> bool:
        """Whether nobody can read any more what is written; only a pipe or a socket can tell."""
        poll = select.poll()
        poll.register(self._sink, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))

    def _was_notified(self, done: asyncio.Future[None]) -> None:
        self._notified -= 1
        if not done.cancelled():
            done.exception()  # who cannot be notified will be found out by the answer

    def _enqueue(self, line: bytes) -> asyncio.Future[None]:
        done = self._loop.create_future()
        self._outgoing.put((line + b"\n", done))
        return done

    def _write_all(self) -> None:
        while True:
            line, done = self._outgoing.get()
            error: OSError | None = None
            view = memoryview(line)
            try:
                while view:
                    view = view[os.write(self._sink, view) :]
            except OSError as failure:
                error = failure
            if not self._call(_settle, done, error):
                return

    def _read_all(self) -> None:
        held, is_too_long = bytearray(), False
        try:
            while chunk := os.read(self._source, _CHUNK):
                *whole, rest = chunk.split(b"\n")
                for piece in whole:
                    held += piece
                    line = None if is_too_long or len(held) > self.limit else bytes(held)
                    held, is_too_long = bytearray(), False
                    if (line is None or line.strip()) and not self._take(line):
                        return
                held += rest
                if len(held) > self.limit:
                    held, is_too_long = bytearray(), True
            if held.strip() and not self._take(bytes(held)):
                return
        except OSError:
            pass  # what cannot be read has ended
        self._take(b"")

    def _take(self, line: bytes | None) -> bool:
        """Hand a line to the loop, waiting while it is behind; False when there is no loop any more."""
        try:
            asyncio.run_coroutine_threadsafe(self._incoming.put(line), self._loop).result()
        except (RuntimeError, asyncio.CancelledError):
            return False
        return True

    def _call(self, function: Callable[..., None], *values: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *values)
        except RuntimeError:
            return False
        return True


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
