"""A thread for writes that block: a disk that stalls must not stall the loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

_STOP: Final = None


class WriterThread:
    """Runs one piece of work after the other; a daemon, so that a dead disk cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def run(self, work: Callable[[], Any]) -> Any:
        """The outcome of the work; raises what it raises. A cancelled wait does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._work.put(partial(_perform, work, loop, future))
        return await future

    def submit(self, work: Callable[[], Any]) -> None:
        """Do this after what was asked before; nobody waits, and its failure is nobody's."""
        self._work.put(partial(_quietly, work))

    def stop(self) -> None:
        """End the thread after what was asked of it."""
        self._work.put(_STOP)

    def _serve(self) -> None:
        while (work := self._work.get()) is not _STOP:
            work()


def _quietly(work: Callable[[], Any]) -> None:
    with suppress(Exception):
        work()


def _perform(work: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    outcome: Any = None
    error: Exception | None = None
    try:
        outcome = work()
    except Exception as caught:  # noqa: BLE001 - raised again where the work was asked for
        error = caught
    try:
        loop.call_soon_threadsafe(_settle, future, outcome, error)
    except RuntimeError:
        return  # the loop has ended; nobody waits


def _settle(future: asyncio.Future[Any], outcome: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
