"""The way to one sink: a bounded queue, batches, and new attempts until the sink takes them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

_log: Final = logging.getLogger("gateway.audit")

MAX_BATCH: Final = 512
_RETRY_SECONDS: Final = 1.0


class Sink(Protocol):
    """Where lines go. A failed write has written nothing of its batch, as far as the sink can tell."""

    @property
    def name(self) -> str:
        """For the operator: kind and place, no secrets."""

    async def write(self, lines: Sequence[bytes]) -> None:
        """Keep these lines, in this order, as well as was promised; raises when it cannot."""

    async def tick(self) -> None:
        """Called every second while the sink works."""

    async def close(self) -> None:
        """Let go of everything; nothing is written afterwards."""


@dataclass(frozen=True, slots=True)
class SinkCounts:
    """What became of the records for one sink.

    Attributes:
        written: records that are there.
        failed: records in attempts that failed; one that is tried again counts again.
        lost: records that found no room.
        pending: records that wait.
        is_up: whether it takes records, as far as is known.
    """

    written: int
    failed: int
    lost: int
    pending: int
    is_up: bool

    def __add__(self, other: SinkCounts) -> SinkCounts:
        """Two sinks of one name as one."""
        return SinkCounts(
            self.written + other.written,
            self.failed + other.failed,
            self.lost + other.lost,
            self.pending + other.pending,
            self.is_up and other.is_up,
        )


class Channel:
    """Brings lines to one sink, in order and in batches: all that came during one write go with the next.

    Args:
        sink: takes them.
        is_required: whether records count as written only once they are here.
        takes_records: whether it gets every record, or heads only.
        limit: most lines that wait.
        patience: seconds that a write may take before the sink counts as failed; it is not given up.
        on_change: told after each progress and each failure.

    Attributes:
        written: the number of the last record that is here.
        trouble: what is wrong with the sink, in the operator's words; "" while it works.
        lost: lines that found no room, ever.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        is_required: bool,
        takes_records: bool,
        limit: int,
        patience: float,
        on_change: Callable[[Channel], None],
    ) -> None:
        self.sink = sink
        self.is_required = is_required
        self.takes_records = takes_records
        self.written = 0
        self.trouble = ""
        self.lost = 0
        self._limit = limit
        self._patience = patience
        self._on_change = on_change
        self._lines: deque[tuple[int, bytes]] = deque()
        self._wake = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._delivered = self._failed = 0

    @property
    def counts(self) -> SinkCounts:
        """For metrics."""
        return SinkCounts(self._delivered, self._failed, self.lost, len(self._lines), not self.trouble)

    def offer(self, seq: int, line: bytes) -> None:
        """Queue a line; one that finds no room is lost for this sink, which has failed then."""
        if len(self._lines) >= self._limit:
            self.lost += 1
            self._fail("its queue is full")
            return
        self._lines.append((seq, line))
        self._is_empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            while self._lines:
                if not await self._write(list(islice(self._lines, MAX_BATCH))):
                    await asyncio.sleep(_RETRY_SECONDS)
            self._wake.clear()
            self._is_empty.set()

    async def tick(self) -> None:
        """Let the sink do what it does from time to time; its failure counts as a failed write."""
        if not self.trouble and self._is_empty.is_set():
            try:
                await self.sink.tick()
            except Exception as error:  # noqa: BLE001 - whatever a sink raises, it has failed
                self._fail(_words(error))

    async def drain(self, limit: float) -> None:
        """Wait until everything is written, at most `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                await self._is_empty.wait()
        except TimeoutError:
            _log.error("audit sink %s: %d records were not written", self.sink.name, len(self._lines))

    async def _write(self, batch: Sequence[tuple[int, bytes]]) -> bool:
        overdue = asyncio.get_running_loop().call_later(self._patience, self._fail, "it does not answer")
        try:
            await self.sink.write([line for _, line in batch])
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, it has failed
            self._failed += len(batch)
            self._fail(_words(error))
            return False
        finally:
            overdue.cancel()
        for _ in batch:
            self._lines.popleft()
        self._delivered += len({seq for seq, _ in batch} - {self.written})  # a head has the number of its record
        self.written = batch[-1][0]
        if self.trouble:
            _log.warning("audit sink %s works again", self.sink.name, extra={"sink": self.sink.name})
            self.trouble = ""
        self._on_change(self)
        return True

    def _fail(self, trouble: str) -> None:
        if not self.trouble:
            _log.error("audit sink %s failed: %s", self.sink.name, trouble, extra={"sink": self.sink.name})
        self.trouble = trouble
        self._on_change(self)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
