"""A thread of its own for a driver that blocks."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Job:
    """One piece of work for the thread; `is_cancelled` tells it that nobody wants it any more."""

    __slots__ = ("_loop", "_work", "future", "is_cancelled")

    def __init__(self, work: Callable[[Job], Any]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.is_cancelled = False

    def perform(self) -> None:
        """Do the work, in the thread, and hand the outcome to the loop."""
        outcome: Any = None
        error: BaseException | None = None
        try:
            if not self.is_cancelled:
                outcome = self._work(self)
        except BaseException as caught:  # noqa: BLE001 - raised again where the work was asked for
            error = caught
        try:
            self._loop.call_soon_threadsafe(self._settle, outcome, error)
        except RuntimeError:
            return  # the loop has ended; nobody waits

    def _settle(self, outcome: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
            self.future.exception()  # read: a cancelled asker does not
        else:
            self.future.set_result(outcome)


class Worker:
    """Runs jobs one after the other on one daemon thread."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | Callable[[], None]] = queue.SimpleQueue()
        self._pending: set[Job] = set()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether no job is running or queued."""
        return not self._pending

    async def do(self, work: Callable[[Job], T]) -> T:
        """Run on the thread and wait. Cancelled, it raises at once and the job is only marked so."""
        job = Job(work)
        self._pending.add(job)
        job.future.add_done_callback(lambda _: self._pending.discard(job))
        self._jobs.put(job)
        try:
            outcome: T = await asyncio.shield(job.future)
        except asyncio.CancelledError:
            job.is_cancelled = True
            raise
        return outcome

    def stop(self, last: Callable[[], None]) -> None:
        """End the thread after what is queued, with one last deed; does not wait."""
        for job in self._pending:
            job.is_cancelled = True
        self._jobs.put(last)

    async def join(self) -> None:
        """Wait for the thread to end, without blocking the loop."""
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        while isinstance(job := self._jobs.get(), Job):
            job.perform()
            del job
        job()
