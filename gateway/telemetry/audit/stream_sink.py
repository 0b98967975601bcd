"""Standard output, or another stream of the process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from gateway.telemetry.audit.thread import WriterThread


class StreamSink:
    """Writes lines to a file descriptor that is open anyway.

    Args:
        descriptor: of the stream; it is not closed.
        name: for the operator.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._is_torn = False
        self._thread = WriterThread("audit-stream")

    async def write(self, lines: Sequence[bytes]) -> None:
        """Write; a reader that does not read is waited for."""
        await self._thread.run(partial(self._write, b"".join(lines)))

    async def tick(self) -> None:
        """There is nothing to do."""

    async def close(self) -> None:
        """The stream stays open: it is the process's."""
        self._thread.stop()

    def _write(self, content: bytes) -> None:
        view = memoryview(b"\n" + content if self._is_torn else content)
        while view:
            written = os.write(self._descriptor, view)
            self._is_torn = bytes(view[written - 1 : written]) != b"\n"
            view = view[written:]
